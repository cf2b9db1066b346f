"""embedrl: multimodal retrieval that reasons before it embeds, and shows its evidence."""

__version__ = "0.1.0"
