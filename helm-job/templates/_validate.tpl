{{- /* Refuses, in one line, values that values.schema.json cannot tell to be wrong since it takes two to see it. */ -}}
{{- define "migrate.validate" -}}
{{- $deadline := int64 .Values.settings.MIGRATE_DEADLINE }}
{{- with .Values.job }}
{{- if gt (add $deadline .terminationGracePeriodSeconds) (int64 .activeDeadlineSeconds) }}
{{- fail (printf "settings.MIGRATE_DEADLINE (%d) and job.terminationGracePeriodSeconds (%d) must fit into job.activeDeadlineSeconds (%d)"
      $deadline (int64 .terminationGracePeriodSeconds) (int64 .activeDeadlineSeconds)) }}
{{- end }}
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
{{- if not (or (has "CLICKHOUSE_URL" $names) (has "CLICKHOUSE_URL_FILE" $names) (has "MYSQL_URL" $names) (has "MYSQL_URL_FILE" $names)) }}
{{- fail "no database is named: set clickhouse.url and mysql.url, or their urlKey" }}
{{- end }}
{{- end }}
