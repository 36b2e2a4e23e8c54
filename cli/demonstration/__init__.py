"""`secondread demo`: the main job from end to end, with every part a real process."""
