"""The crowded world: media with more facts than a T-CoT can hold, and tasks that define which are relevant."""
