"""What others run us with: containers, Compose, Kubernetes, systemd, Prometheus."""
