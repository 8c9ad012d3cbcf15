"""Pictures of the dashboards for the documents: ``python -m grafana.pictures``.

They are no screenshots of Grafana. A system is run and hurt under a real Prometheus, each panel's own queries are asked
as Grafana would ask them, and the answers are drawn here, on the dashboard's grid, with its units, colours and legends.
"""
