"""Tables for people, drawn with rich: ``tables`` builds them from plain values."""
