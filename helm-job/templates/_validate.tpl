{{- /* Refuses, in one line, values that values.schema.json cannot tell to be wrong since it takes two to see it. */ -}}
{{- define "migrate.validate" -}}
{{- $grace := int64 .Values.job.terminationGracePeriodSeconds }}
{{- if gt (add .Values.settings.MIGRATE_DEADLINE $grace) (int64 .Values.job.activeDeadlineSeconds) }}
{{- fail "settings.MIGRATE_DEADLINE and job.terminationGracePeriodSeconds together must not exceed job.activeDeadlineSeconds" }}
{{- end }}
{{- range $target := list "clickhouse" "mysql" }}
{{- with index $.Values $target }}
{{- if and .url .urlKey }}
{{- fail (printf "%s.url and %s.urlKey are both set; unset one of them" $target $target) }}
{{- end }}
{{- if and .urlKey (not .existingSecret) }}
{{- fail (printf "%s.urlKey needs %s.existingSecret" $target $target) }}
{{- end }}
{{- if and .password .existingSecret }}
{{- fail (printf "%s.password and %s.existingSecret are both set; unset one of them" $target $target) }}
{{- end }}
{{- if regexMatch "//[^/@]*:[^/]*@" .url }}
{{- fail (printf "%s.url holds a password; put it into a Secret and name that as %s.existingSecret" $target $target) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.steps.files (not .Values.steps.configMap) }}
{{- fail "steps.files needs steps.configMap" }}
{{- end }}
{{- $names := list }}
{{- range include "migrate.env" . | fromYamlArray }}
{{- if has .name $names }}
{{- fail (printf "extraEnv sets %s, which is set already" .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- end }}
