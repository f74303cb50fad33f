{{/* What the pods of all components share. The dict that is given holds `root`, `component` (its key in the values), and
     optionally `token` (mount the service account's token), `airflow` (the image with Airflow). */}}

{{- define "hindcast.metadata" -}}
labels:
  {{- include "hindcast.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
annotations:
  checksum/config: {{ include "hindcast.config" .root | sha256sum }}
  {{- with (index .root.Values .component).podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "hindcast.pod" -}}
{{- $values := index .root.Values .component }}
serviceAccountName: {{ include "hindcast.fullname" .root }}-{{ .component }}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.affinity }}
affinity: {{- toYaml $values.affinity | nindent 2 }}
{{- else if and (not .root.Values.lake.url) (not (has "ReadWriteMany" .root.Values.lake.volume.accessModes)) }}
# The lake's volume can be used on one node only. The first pod may go anywhere, since it matches its own selector.
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- include "hindcast.selector" .root | nindent 12 }}
{{- end }}
volumes:
  - name: config
    configMap: {name: {{ include "hindcast.fullname" .root }}}
  - name: tmp
    emptyDir: {}
{{- if .root.Values.lake.url }}
  - name: cache
    emptyDir: {sizeLimit: {{ add (int64 .root.Values.lake.cacheBytes) 536870912 }}}
{{- else }}
  - name: lake
    persistentVolumeClaim: {claimName: {{ include "hindcast.claim" .root }}}
{{- end }}
{{- range include "hindcast.secrets" . | fromYamlArray }}
  - name: {{ .name }}
    secret: {secretName: {{ .secretName }}, defaultMode: 0440}
{{- end }}
{{- range .root.Values.mounts }}
{{- if has $.component .components }}
  - name: mount-{{ .name }}
    {{- if .secretName }}
    secret: {secretName: {{ .secretName }}, defaultMode: 0440}
    {{- else }}
    configMap: {name: {{ .configMapName }}}
    {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The fields that every container has. */}}
{{- define "hindcast.container" -}}
{{- $values := index .root.Values .component }}
image: {{ include "hindcast.image" . | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- toYaml $values.resources | nindent 2 }}
env:
  - {name: HINDCAST_CONFIG, value: /etc/hindcast/hindcast.yaml}
  - {name: HOME, value: /tmp}
  - {name: USER, value: hindcast}  # Airflow does not run as a user without a name
{{- with .root.Values.lake }}
{{- if and .url .credentials.secretName }}
{{- $secret := .credentials.secretName }}
{{- range $option, $key := .credentials.keys }}
  - name: {{ $option }}
    valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ $key }}}}
{{- end }}
{{- end }}
{{- end }}
volumeMounts:
  - {name: config, mountPath: /etc/hindcast/hindcast.yaml, subPath: hindcast.yaml, readOnly: true}
  - {name: tmp, mountPath: /tmp}
{{- if .root.Values.lake.url }}
  - {name: cache, mountPath: /var/cache/hindcast}
{{- else }}
  - {name: lake, mountPath: /var/lib/hindcast/lake}
{{- end }}
{{- range include "hindcast.secrets" . | fromYamlArray }}
  - {name: {{ .name }}, mountPath: /etc/hindcast/secrets/{{ .name }}, readOnly: true}
{{- end }}
{{- range .root.Values.mounts }}
{{- if has $.component .components }}
  - {name: mount-{{ .name }}, mountPath: /etc/hindcast/{{ if .secretName }}secrets{{ else }}files{{ end }}/{{ .name }}, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{/* The Secrets that a component needs, and no other does: a list of {name, secretName}. */}}
{{- define "hindcast.secrets" -}}
{{- $secrets := list }}
{{- $component := .component }}
{{- range $number, $cluster := .root.Values.clusters }}
{{- with $cluster }}
  {{- if and (eq $component "collector") .hubble .hubble.tls .hubble.tls.secretName }}
    {{- $secrets = append $secrets (dict "name" (printf "hubble-%d" $number) "secretName" .hubble.tls.secretName) }}
  {{- end }}
  {{- if and (eq $component "history") .kubernetes .kubernetes.secretName }}
    {{- $secrets = append $secrets (dict "name" (printf "kubernetes-%d" $number) "secretName" .kubernetes.secretName) }}
  {{- end }}
  {{- if and (eq $component "maintenance") .open_reports .open_reports.secretName }}
    {{- $secrets = append $secrets (dict "name" (printf "open-reports-%d" $number) "secretName" .open_reports.secretName) }}
  {{- end }}
  {{- if and (eq $component "dashboard") .proposer .proposer.secretName }}
    {{- $secrets = append $secrets (dict "name" (printf "proposer-%d" $number) "secretName" .proposer.secretName) }}
  {{- end }}
{{- end }}
{{- end }}
{{- with .root.Values }}
  {{- if and (eq $component "dashboard") (eq .dashboard.auth.mode "oidc") }}
    {{- $secrets = append $secrets (dict "name" "oidc" "secretName" .dashboard.auth.oidc.secretName) }}
  {{- end }}
  {{- if eq $component "serve" }}
    {{- $secrets = append $secrets (dict "name" "serve" "secretName" .serve.tls.secretName) }}
    {{- if .serve.tls.clientCaSecretName }}
      {{- $secrets = append $secrets (dict "name" "serve-clients" "secretName" .serve.tls.clientCaSecretName) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- toYaml $secrets }}
{{- end }}
