"""Files for deployments: containers, Compose, Kubernetes, systemd, Prometheus."""
