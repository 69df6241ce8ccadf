"""Rows of logits: what is read off one, and what is known of one that was kept in part.

It does not know stages, models or texts.
"""
