"""Pictures of the dashboards for the documents: ``python -m grafana.pictures``.

They are not screenshots of Grafana. A system runs under load with drills, watched by a real Prometheus. The queries of
each panel are sent as Grafana would send them. The answers are drawn here on the dashboard's grid, with its units,
colours and legends.
"""
