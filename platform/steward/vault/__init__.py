"""Keys and sealed objects as rows; plaintext never touches a disk."""
