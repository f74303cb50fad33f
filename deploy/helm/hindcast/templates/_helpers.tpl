{{/* Names, labels, and paths that more than one template uses. */}}

{{- define "hindcast.fullname" -}}
{{- if contains "hindcast" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-hindcast" (.Release.Name | trunc 31) }}{{ end }}
{{- end }}

{{- define "hindcast.selector" -}}
app.kubernetes.io/name: hindcast
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "hindcast.labels" -}}
{{ include "hindcast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The image of a component; `airflow` is the target with Airflow in it. */}}
{{- define "hindcast.image" -}}
{{- $image := .root.Values.image }}
{{- $own := $image }}
{{- if .airflow }}{{ $own = .root.Values.maintenance.airflow }}{{ end }}
{{- $tag := $own.tag | default $image.tag | default .root.Chart.AppVersion }}
{{- if $own.digest }}{{ $own.repository }}@{{ $own.digest }}{{ else }}{{ $own.repository }}:{{ $tag }}{{ end }}
{{- end }}

{{- define "hindcast.claim" -}}
{{- .Values.lake.volume.existingClaim | default (printf "%s-lake" (include "hindcast.fullname" .)) }}
{{- end }}

{{/* Whether a cluster's configuration is recorded, as text; empty if of none. */}}
{{- define "hindcast.recorded" -}}
{{- range .Values.clusters }}{{ if .kubernetes }}yes{{ end }}{{ end }}
{{- end }}

{{/* Whether collectors use Lease objects, as text; empty if they do not. */}}
{{- define "hindcast.leases" -}}
{{- if and .Values.collector.enabled (or (eq .Values.collector.leases "kubernetes") (and (eq .Values.collector.leases "auto") (gt (int .Values.collector.replicas) 1))) }}true{{ end }}
{{- end }}

{{/* hindcast.yaml: the values' own sections, and what the chart sets itself. */}}
{{- define "hindcast.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $lake := dict "url" "/var/lib/hindcast/lake" }}
{{- with .Values.lake }}
  {{- if .url }}
    {{- $options := deepCopy .options }}
    {{- if .credentials.secretName }}{{ range $option, $key := .credentials.keys }}{{ $_ := set $options $option (printf "env:%s" $option) }}{{ end }}{{ end }}
    {{- $lake = dict "url" .url "options" $options "cache" "/var/cache/hindcast" "cache_bytes" (int64 .cacheBytes) }}
  {{- end }}
{{- end }}
{{- $clusters := list }}
{{- range $number, $given := .Values.clusters }}
  {{- $cluster := deepCopy $given }}
  {{- if and $cluster.hubble $cluster.hubble.tls $cluster.hubble.tls.secretName }}
    {{- $folder := printf "/etc/hindcast/secrets/hubble-%d" $number }}
    {{- $tls := omit $cluster.hubble.tls "secretName" | merge (dict "ca" (printf "%s/ca.crt" $folder) "cert" (printf "%s/tls.crt" $folder) "key" (printf "%s/tls.key" $folder)) }}
    {{- $_ := set $cluster.hubble "tls" $tls }}
  {{- end }}
  {{- range $section := list "kubernetes" "proposer" "open_reports" }}
    {{- $given := index $cluster $section | default dict }}
    {{- if $given.secretName }}
      {{- $_ := set $cluster $section (omit $given "secretName" | merge (dict "kubeconfig" (printf "/etc/hindcast/secrets/%s-%d/kubeconfig" ($section | replace "_" "-") $number))) }}
    {{- end }}
  {{- end }}
  {{- $clusters = append $clusters $cluster }}
{{- end }}
{{- $auth := dict "mode" .Values.dashboard.auth.mode }}
{{- $isLocal := eq .Values.dashboard.auth.mode "local" }}
{{- if not $isLocal }}
  {{- $oidc := .Values.dashboard.auth.oidc }}
  {{- $redirect := $oidc.redirectUri | default (printf "https://%s/oauth2callback" .Values.dashboard.ingress.host) }}
  {{- $_ := set $auth "oidc" (dict "metadata_url" $oidc.metadataUrl "client_id" $oidc.clientId "redirect_uri" $redirect "client_secret_file" "/etc/hindcast/secrets/oidc/client-secret" "cookie_secret_file" "/etc/hindcast/secrets/oidc/cookie-secret" "user_claim" $oidc.userClaim "groups_claim" $oidc.groupsClaim) }}
{{- end }}
{{- $set := dict "lake" $lake "clusters" $clusters }}
{{- $collect := dict "listen" "0.0.0.0:9965" "spool" "/var/lib/hindcast/spool" "spool_max_bytes" (int64 .Values.collector.spool.maxBytes) }}
{{- if include "hindcast.leases" . }}{{ $_ := set $collect "leases" (dict "kubernetes" (dict "in_cluster" true)) }}{{ end }}
{{- $_ := set $set "collect" $collect }}
{{- $_ := set $set "dashboard" (dict "listen" ($isLocal | ternary "127.0.0.1:8501" "0.0.0.0:8501") "auth" $auth) }}
{{- if .Values.serve.enabled }}
  {{- $tls := dict "cert" "/etc/hindcast/secrets/serve/tls.crt" "key" "/etc/hindcast/secrets/serve/tls.key" }}
  {{- if .Values.serve.tls.clientCaSecretName }}{{ $_ := set $tls "client_ca" "/etc/hindcast/secrets/serve-clients/ca.crt" }}{{ end }}
  {{- $_ := set $set "serve" (dict "listen" "0.0.0.0:4245" "tls" $tls) }}
{{- end }}
{{- mergeOverwrite $config $set | toYaml }}
{{- end }}
