"""The crowded world: media that hold more facts than a T-CoT has room for, and tasks that say which facts matter."""
