{{- /*
Everything that the operator may do, in the namespaces that it serves. Each rule says what needs it.
No rule has a wildcard, and none reads Secrets or ConfigMaps: pods name them, the kubelet reads them, and
their absence is learned from the pod. The watches of namespaces and CRDs that kopf would like are not
granted: it runs with scanning switched off.
*/}}
{{- define "oikyo.rules" -}}
# Jobs of people: read; removed when ttlSecondsAfterFinished says so; never written but for the status.
- apiGroups: [oikyo.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch, delete]
# Versions and endpoints: made once, then they are records and a person's.
- apiGroups: [oikyo.dev]
  resources: [modelversions, modelendpoints]
  verbs: [get, list, watch, create]
- apiGroups: [oikyo.dev]
  resources: [finetunejobs/status, modelendpoints/status]
  verbs: [patch]
# Children name their owner with blockOwnerDeletion: clusters with the admission plugin
# OwnerReferencesPermissionEnforcement (OpenShift) ask for this verb.
- apiGroups: [oikyo.dev]
  resources: [finetunejobs/finalizers, modelendpoints/finalizers]
  verbs: [update]
# One Job for each attempt of a stage: made and removed, never changed.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, delete]
# Pods that are placed together or not at all, where the cluster or Volcano offers it: made before their
# Job, asked for by name, removed with it.
- apiGroups: [scheduling.k8s.io, scheduling.volcano.sh]
  resources: [podgroups]
  verbs: [get, create, delete]
# How workers fare. Pods are made by Jobs and Deployments.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The workspace: made if asked; its owner reference or a person removes it.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create]
# Warnings about children, for the diagnosis.
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
# The story of a job.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
# Rendezvous of a gang; servers of an endpoint, by server-side apply.
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}

{{- /* The Lease of the leader, in the release's namespace only. */}}
{{- define "oikyo.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, create, update]
{{- end }}
