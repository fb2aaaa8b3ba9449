{{- /* The Job's spec. Its hash is part of an ordinary Job's name: hardly a field of a Job's spec can be changed. */ -}}
{{- define "migrate.job" -}}
backoffLimit: {{ int64 .Values.job.backoffLimit }}
activeDeadlineSeconds: {{ int64 .Values.job.activeDeadlineSeconds }}
{{- with .Values.job.ttlSecondsAfterFinished }}
ttlSecondsAfterFinished: {{ int64 . }}
{{- end }}
{{- if semverCompare ">=1.29-0" .Capabilities.KubeVersion.Version }}
podReplacementPolicy: Failed # the next pod starts when the last one has ended
{{- end }}
{{- if semverCompare ">=1.26-0" .Capabilities.KubeVersion.Version }}
podFailurePolicy:
  rules: # the first match decides; what matches none (exit 1, 3, 4) counts towards backoffLimit
    - action: Ignore # a drain or an eviction
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
    - action: FailJob # the program's codes for what a repetition does not change
      onExitCodes:
        containerName: migrate
        operator: In
        values: [2, 5, 6, 7]
{{- end }}
template:
  metadata:
    labels:
      {{- include "migrate.labels" . | nindent 6 }}
    {{- with .Values.podAnnotations }}
    annotations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    {{- include "migrate.pod" (dict "root" . "command" "run") | nindent 4 }}
{{- end }}

{{- define "migrate.jobName" -}}
{{- include "migrate.name" . }}
{{- if not .Values.hook.enabled }}-{{ include "migrate.job" . | sha256sum | trunc 8 }}{{ end }}
{{- end }}

{{- define "migrate.jobAnnotations" -}}
{{- $annotations := dict }}
{{- with .Values.hook }}
{{- if .enabled }}
{{- $annotations = dict
      "helm.sh/hook" (join "," .events)
      "helm.sh/hook-weight" (int64 .weight | toString)
      "helm.sh/hook-delete-policy" (join "," .deletePolicy)
      "helm.sh/hook-output-log-policy" "hook-failed" }}
{{- end }}
{{- end }}
{{- with merge $annotations .Values.jobAnnotations }}
{{- toYaml . }}
{{- end }}
{{- end }}
