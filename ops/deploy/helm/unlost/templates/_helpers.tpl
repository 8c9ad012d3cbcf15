{{- define "unlost.secret" -}}
{{- get .root.Values.secrets .name | default (printf "%s-%s" .root.Release.Name .name) -}}
{{- end -}}

{{- define "unlost.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- define "unlost.labels" -}}
app: {{ .root.Release.Name }}-{{ .name }}
app.kubernetes.io/name: unlost
app.kubernetes.io/component: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{- define "unlost.most" -}}
{{- if .Values.keda.enabled }}{{ .Values.keda.maxReplicas }}{{ else }}{{ .Values.listener.replicas }}{{ end -}}
{{- end -}}

{{- /* The listeners' names. With autoscaling, also of those that are not there now. */ -}}
{{- define "unlost.listenerHosts" -}}
{{- $name := .Release.Name -}}
{{- range $i := until (int (include "unlost.most" .)) -}}
{{- if $i }},{{ end }}{{ $name }}-listener-{{ $i }}.{{ $name }}-listener
{{- end -}}
{{- end -}}

{{- define "unlost.listenerUrls" -}}
{{- $name := .Release.Name -}}
{{- range $i := until (int (include "unlost.most" .)) -}}
{{- if $i }},{{ end }}http://{{ $name }}-listener-{{ $i }}.{{ $name }}-listener:3000
{{- end -}}
{{- end -}}

{{- define "unlost.env" -}}
{{- range $name, $value := . }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "unlost.handling" -}}
{{- if .Values.listener.handler }}
- {name: HANDLER, value: {{ .Values.listener.handler | quote }}}
{{- end }}
{{- if .Values.migrate.enabled }}
- {name: MIGRATE, value: "no"}
{{- end }}
{{- include "unlost.env" .Values.listener.env }}
{{- end -}}

{{- define "unlost.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- end -}}

{{- define "unlost.container" -}}
image: {{ include "unlost.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end -}}

{{- /* Nothing outside can fail liveness; a start waits for PostgreSQL for half a minute and more. */ -}}
{{- define "unlost.probes" -}}
startupProbe: {httpGet: {path: /health/live, port: http}, periodSeconds: 2, failureThreshold: 60}
livenessProbe: {httpGet: {path: /health/live, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
readinessProbe: {httpGet: {path: /health/ready, port: http}, periodSeconds: 5, timeoutSeconds: 3}
{{- end -}}

{{- define "unlost.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: tokens, mountPath: /run/unlost-tokens, readOnly: true}
- {name: secrets, mountPath: /run/unlost, readOnly: true}
{{- end -}}

{{- define "unlost.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 16Mi}}
- {name: tokens, secret: {secretName: {{ include "unlost.secret" (dict "root" .root "name" "tokens") }}, defaultMode: 0440}}
- {name: secrets, secret: {secretName: {{ include "unlost.secret" . }}, defaultMode: 0440}}
{{- end -}}

{{- define "unlost.annotations" -}}
{{- if .root.Values.monitoring.annotations -}}
annotations: {prometheus.io/scrape: "true", prometheus.io/port: {{ .port | quote }}}
{{- end -}}
{{- end -}}

{{- define "unlost.claim" -}}
spec:
  accessModes: [ReadWriteOnce]
  {{- with .className }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .size }}}}
{{- end -}}

{{- define "unlost.toDns" -}}
- to: {{ toJson .Values.networkPolicy.egress.dns }}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{- /* PostgreSQL or Redis: the release's own, or the one that the values name. */ -}}
{{- define "unlost.toServer" -}}
{{- $server := get .root.Values.networkPolicy.egress .name -}}
{{- if .root.Values.bundled.enabled -}}
- to: [{podSelector: {matchLabels: {app: {{ .root.Release.Name }}-{{ .name }}}}}]
  ports: [{port: {{ .port }}}]
{{- else -}}
- ports:
    {{- range $server.ports }}
    - {port: {{ . }}}
    {{- end }}
  {{- with $server.to }}
  to: {{ toJson . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "unlost.toPostgres" -}}
{{- include "unlost.toServer" (dict "root" . "name" "postgres" "port" 5432) -}}
{{- end -}}

{{- define "unlost.toRedis" -}}
{{- include "unlost.toServer" (dict "root" . "name" "redis" "port" 6379) -}}
{{- end -}}

{{- define "unlost.toPods" -}}
- to: [{podSelector: {matchLabels: {app: {{ .root.Release.Name }}-{{ .name }}}}}]
  ports: [{port: {{ .port }}}]
{{- end -}}

{{- define "unlost.toOthers" -}}
{{- with . }}
{{ toYaml . }}
{{- end }}
{{- end -}}
