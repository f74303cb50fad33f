"""What pages share: the head, navigation, time control, filter bar, state in the address, saved views, exports, the theme."""
