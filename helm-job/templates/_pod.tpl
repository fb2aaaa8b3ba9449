{{- /* What the pods of the Job and of `helm test` share. Takes (dict "root" $ "command" COMMAND). */ -}}
{{- define "migrate.pod" -}}
restartPolicy: Never
terminationGracePeriodSeconds: {{ int64 .root.Values.job.terminationGracePeriodSeconds }}
serviceAccountName: {{ include "migrate.serviceAccountName" .root }}
automountServiceAccountToken: false
enableServiceLinks: false # they would set MIGRATE_* variables for a Service named migrate
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
containers:
  - {{ include "migrate.container" (dict "root" .root "name" "migrate" "command" .command) | indent 4 | trim }}
{{- with include "migrate.volumes" .root | trim }}
volumes:
  {{- . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* One container. Takes (dict "root" $ "name" NAME "command" COMMAND). */ -}}
{{- define "migrate.container" -}}
name: {{ .name }}
image: {{ include "migrate.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .command | quote }}]
env:
  {{- include "migrate.env" .root | trim | nindent 2 }}
{{- with include "migrate.mounts" .root | trim }}
volumeMounts:
  {{- . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .root.Values.resources | nindent 2 }}
terminationMessagePath: /dev/termination-log # the report, so that `kubectl describe pod` says why
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- end }}

{{- define "migrate.env" -}}
{{- range $target := list "clickhouse" "mysql" }}
{{- with (index $.Values $target).url }}
- name: {{ upper $target }}_URL
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- range include "migrate.secrets" . | fromJsonArray }}
- name: {{ upper .setting }}_FILE
  value: /run/databases/{{ .setting }}
{{- end }}
{{- if and .Values.steps.configMap (not .Values.steps.files) }}
- name: MIGRATE_STEPS_DIR
  value: /run/steps
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ kindIs "string" $value | ternary $value (int64 $value) | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Not /run/secrets: below it a pod's account token may be mounted, for which a read-only volume has no place. */ -}}
{{- define "migrate.mounts" -}}
{{- if include "migrate.secrets" . | fromJsonArray }}
- name: migrate-secrets
  mountPath: /run/databases
  readOnly: true
{{- end }}
{{- with .Values.steps }}
{{- range .files }}
- name: migrate-steps
  mountPath: /app/sql/{{ . }}
  subPath: {{ . }}
  readOnly: true
{{- else }}
{{- if .configMap }}
- name: migrate-steps
  mountPath: /run/steps
  readOnly: true
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "migrate.volumes" -}}
{{- with include "migrate.secrets" . | fromJsonArray }}
- name: migrate-secrets
  projected:
    sources:
      {{- range . }}
      - secret:
          name: {{ .secret }}
          items: [{key: {{ .key | quote }}, path: {{ .setting }}}]
      {{- end }}
{{- end }}
{{- with .Values.steps.configMap }}
- name: migrate-steps
  configMap:
    name: {{ . }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
