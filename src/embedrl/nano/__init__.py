"""The nano models, above the world that they are trained on. The real Qwen3-VL architecture at about four million parameters, trained here from nothing."""
