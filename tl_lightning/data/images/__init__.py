"""Images: found, checked, decoded, transformed."""
