"""Figures that others published, as printed, to stand beside ours. Which modality is meant is part of the name."""

__all__ = [
    "DECODING_S", "DUPLEX", "INSTRUCT", "INSTRUCT_OMEGA", "LATENCY_MS", "LATENCY_SUM_MS", "OUTPUT_CER",
    "RECOGNITION_WER", "SPOKEN_QA",
]  # fmt: skip

# Accuracy in percent. Freeze-Omni's own figures are A→T (arXiv:2411.00774); A→S is a later paper's measurement.
SPOKEN_QA: dict[str, dict[str, float | None]] = {
    "Qwen2-7B-Instruct, T→T": {"web": 45.13, "llama": 77.67, "trivia": 63.93},
    "Freeze-Omni 7B, A→T": {"web": 44.73, "llama": 72.0, "trivia": 53.88},
    "Freeze-Omni 7B, A→S (later paper)": {"web": 26.1, "llama": None, "trivia": 25.7},
    "GLM-4-Voice 9B, A→T": {"web": 32.2, "llama": 64.7, "trivia": 39.1},
    "Moshi 7B, A→T": {"web": 26.6, "llama": 62.3, "trivia": 22.8},
    "LLaMA-Omni2 7B, A→T": {"web": 34.5, "llama": 70.3, "trivia": None},
    "LLaMA-Omni2 7B, A→S": {"web": 31.3, "llama": 60.7, "trivia": None},
}
# Percent on LibriSpeech test-clean and test-other (arXiv:2411.00774).
RECOGNITION_WER = {
    "Freeze-Omni, full context": (3.24, 7.68),
    "Freeze-Omni, chunk = 4, dynamic chunks in training": (4.05, 10.48),
    "Freeze-Omni, chunk = 4, without": (3.82, 9.79),
}
# CER in percent by top-k 1 .. 5 (arXiv:2411.00774, AR decoder).
OUTPUT_CER = {
    "without prefix": (5.27, 4.64, 4.76, 4.66, 5.03),
    "without prefix, with pre-network": (3.11, 2.75, 2.77, 2.84, 2.94),
    "with prefix": (3.9, 3.65, 3.53, 3.62, 3.71),
    "with prefix and pre-network": (2.19, 1.69, 1.85, 1.9, 1.99),
}
# Freeze-Omni: first text chunk, speech decoder prefilled, first codes, first sound; then the sum (average; p50, p90).
LATENCY_MS = {"first text": 478.0, "speech decoder prefilled": 15.0, "first codes": 237.0, "first sound": 11.0}
LATENCY_SUM_MS = {"average": 745.0, "p50": 753.0, "p90": 1020.0}
# LLaMA-Omni's first version (arXiv:2409.06666v1): S2TIF content and style, S2SIF content and style (GPT-4o, 1 to 5),
# ASR-WER and ASR-CER in percent, offline.
INSTRUCT = {
    "SpeechGPT": (2.59, 3.15, 1.58, 1.81, 47.62, 37.26),
    "SALMONN + TTS": (2.57, 2.79, 2.46, 2.84, 21.77, 20.25),
    "Qwen2-Audio + TTS": (2.73, 2.64, 2.32, 2.58, 55.72, 53.09),
    "LLaMA-Omni": (3.23, 3.81, 2.69, 3.12, 11.61, 7.59),
}
# Its second version: by Omega (inf: offline), latency in ms, ASR-WER in percent, UTMOS, words a second. Lagging words
# are known from the first version at Omega = 10 alone: 1.82, at 226 ms.
INSTRUCT_OMEGA = {
    "10": (236.18, 9.84, 3.2304, 2.76),
    "20": (281.41, 9.91, 3.4748, 2.75),
    "40": (346.73, 10.37, 3.6688, 2.74),
    "60": (412.06, 10.47, 3.7549, 2.74),
    "80": (487.44, 10.70, 3.7858, 2.73),
    "100": (562.81, 10.71, 3.8242, 2.74),
    "inf": (1753.77, 10.82, 3.9296, 2.73),
}
# Seconds an instruction, to text and to speech (first version; the second figure is 1.28 times the first).
DECODING_S = {"LLaMA-Omni": (1.49, 1.91)}
# Full-Duplex-Bench v1: pause TOR (synthetic, Candor), turn TOR and latency in s, interruption TOR and latency in s.
DUPLEX = {
    "Freeze-Omni": (0.642, 0.481, 0.336, 0.953, 0.867, 1.409),
    "Moshi": (0.985, 0.980, 0.941, 0.265, 1.0, 0.257),
    "PersonaPlex": (0.584, 0.662, 0.992, 0.070, 1.0, 0.40),
    "GPT-Realtime": (0.010, 0.120, 1.000, 1.470, 0.970, 1.50),
}
