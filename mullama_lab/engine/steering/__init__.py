"""What changes the model itself while its file stays: LoRA adapters and control vectors."""
