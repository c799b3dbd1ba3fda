"""What scanners say of the template, and of the projects generated from it."""
