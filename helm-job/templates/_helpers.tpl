{{- /* The name of everything. 46 characters leave room for -migrate and -verify within a label's 63. */ -}}
{{- define "migrate.name" -}}
{{ .Release.Name | replace "." "-" | trunc 46 | trimSuffix "-" }}-migrate
{{- end }}

{{- define "migrate.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "migrate.image" -}}
{{- with .Values.image -}}
{{ required "image.repository is required: where the cluster pulls the migrate image from" .repository -}}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* Annotations of what a hook needs: made before it, and kept, since a failed Job's next pod needs it again. */ -}}
{{- define "migrate.beforeHook" -}}
{{- if .Values.hook.enabled -}}
helm.sh/hook: {{ join "," .Values.hook.events }}
helm.sh/hook-weight: {{ sub .Values.hook.weight 5 | quote }}
helm.sh/hook-delete-policy: before-hook-creation
{{- end }}
{{- end }}

{{- define "migrate.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (ternary (include "migrate.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /*
The Secrets to mount, as a JSON list: the Secret, its key, and which setting the file holds. The file is named like the
setting, so clickhouse_password becomes CLICKHOUSE_PASSWORD_FILE.
*/ -}}
{{- define "migrate.secrets" -}}
{{- $secrets := list }}
{{- range $target := list "clickhouse" "mysql" }}
{{- with index $.Values $target }}
{{- if .urlKey }}
{{- $secrets = append $secrets (dict "secret" .existingSecret "key" .urlKey "setting" (print $target "_url")) }}
{{- else if .existingSecret }}
{{- $secrets = append $secrets (dict "secret" .existingSecret "key" .passwordKey "setting" (print $target "_password")) }}
{{- else if .password }}
{{- $own := include "migrate.name" $ }}
{{- $secrets = append $secrets (dict "secret" $own "key" (print $target "-password") "setting" (print $target "_password")) }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $secrets }}
{{- end }}
