"""Layer 4: the nano models. The real Qwen3-VL architecture at about four million parameters, trained here from nothing."""
