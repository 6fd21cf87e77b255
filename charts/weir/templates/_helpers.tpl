{{/* Name of every object of the operator. */}}
{{- define "weir.name" -}}
{{- if contains "weir" .Release.Name }}{{ printf "%s-operator" .Release.Name | trunc 63 | trimSuffix "-" }}{{ else }}{{ printf "%s-weir-operator" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "weir.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "weir.name" .) }}
{{- end }}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weir.labels" -}}
{{ include "weir.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: weir
{{- end }}

{{/* What the operator may do with Clusters, Streams, Consumers and their objects: nothing it does not use. */}}
{{- define "weir.rules" -}}
- apiGroups: [weir.dev]
  resources: [clusters]
  verbs: [get, list, watch]
- apiGroups: [weir.dev]
  resources: [streams, consumers]
  verbs: [list, watch, patch] # patch: finalizers
- apiGroups: [weir.dev]
  resources: [clusters/status, streams/status, consumers/status]
  verbs: [patch]
- apiGroups: [weir.dev]
  resources: [clusters/finalizers] # to own what it builds, where that is checked
  verbs: [update]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [secrets] # by name only: no list, no watch
  verbs: [get, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, delete] # delete: rolling changes
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, patch, delete] # patch: growth; delete: of brokers that left, by policy
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
