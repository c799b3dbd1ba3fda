"""What users are told to type works as it stands."""
