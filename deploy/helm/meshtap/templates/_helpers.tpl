{{- define "meshtap.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "meshtap" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-meshtap" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "meshtap.selector" -}}
app.kubernetes.io/name: meshtap
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "meshtap.labels" -}}
{{ include "meshtap.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "meshtap.account" -}}
{{- .Values.serviceAccount.name | default (ternary (include "meshtap.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "meshtap.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Address and port as the agent takes them; one of IPv6 in brackets. */}}
{{- define "meshtap.listen" -}}
{{- $address := .Values.listen.address | default "$(NODE_ADDRESS)" -}}
{{- $six := or (contains ":" $address) (and (not .Values.listen.address) (eq .Values.listen.family "IPv6")) -}}
{{- printf (ternary "[%s]:%v" "%s:%v" $six) $address .Values.listen.port -}}
{{- end -}}

{{/*
What the agent reads: where the host's files are in its container, and over that the values.
As JSON, which is YAML: large numbers stay whole.
*/}}
{{- define "meshtap.config" -}}
{{- $root := "/host/proc/1/root" -}}
{{- $host := dict "proc" "/host/proc" -}}
{{- $containers := dict
  "docker" (list (printf "%s/var/lib/docker" $root))
  "storage" (list (printf "%s/var/lib/containers/storage" $root) (printf "%s/run/containers/storage" $root))
  "bundles" (list (printf "%s/run/containerd/io.containerd.runtime.v2.task" $root)) -}}
{{- $ours := dict "host" $host "containers" $containers -}}
{{- mergeOverwrite $ours (deepCopy .Values.config) | toPrettyJson -}}
{{- end -}}

{{/* Kubelet must not end the agent while it still sends. Only plain durations are compared. */}}
{{- define "meshtap.checkStop" -}}
{{- $within := .Values.config.stop_within | default "10s" -}}
{{- $seconds := 0 -}}
{{- if regexMatch "^[0-9]+s(ec)?$" $within -}}{{- $seconds = regexFind "^[0-9]+" $within | int -}}
{{- else if regexMatch "^[0-9]+m(in)?$" $within -}}{{- $seconds = mul 60 (regexFind "^[0-9]+" $within | int) -}}
{{- end -}}
{{- if ge (int $seconds) (int .Values.terminationGracePeriodSeconds) -}}
{{- fail (printf "terminationGracePeriodSeconds (%v) has to be longer than config.stop_within (%s)" .Values.terminationGracePeriodSeconds $within) -}}
{{- end -}}
{{- end -}}
