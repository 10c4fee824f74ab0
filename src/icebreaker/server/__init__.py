"""The Realtime protocol over WebSockets, and the web page. Knows nothing of models; talks to an ``EngineLike``."""
