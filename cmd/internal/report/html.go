package report

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
)

// shown bounds the lines of each table that people are given; report.json has all.
const shown = 5000

// page has no scripts, and loads nothing: what stands in it is names that agents
// and clients chose.
var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"t":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000Z") },
	"line": render.Line,
	"list": func(l []string) string { return render.Line(strings.Join(l, ", ")) },
	"cut":  func(l []Access) []Access { return l[:min(len(l), shown)] },
	"more": func(l []Access) int { return max(len(l)-shown, 0) },
}).Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>sallyport: accesses from {{t .Filter.From}} to {{t .Filter.To}}</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:2em;color:#111}
table{border-collapse:collapse;width:100%;margin:.5em 0 2em}
th,td{border:1px solid #ccc;padding:.25em .5em;text-align:left;vertical-align:top;overflow-wrap:anywhere}
th{background:#eee}
.bad{background:#fdd;padding:.5em 1em;border:1px solid #c00}.good{background:#dfd;padding:.5em 1em;border:1px solid #090}
code{font-size:12px}
</style></head><body>
<h1>Accesses through sallyport</h1>
<p>From {{t .Filter.From}} until before {{t .Filter.To}}.
{{with .Filter.Identity}}Identity: <b>{{line .}}</b>. {{end}}{{with .Filter.Principal}}Principal: <b>{{line .}}</b>. {{end}}
{{with .Filter.Relation}}Relation: <b>{{line .}}</b>. {{end}}{{with .Filter.Resource}}Resource: <b>{{line .}}</b>. {{end}}
{{with .Filter.Subjects}}Shown rows of: <b>{{list .}}</b> (keyed hashes). {{end}}
Made {{t .Made}} by {{line .Program}}.</p>
{{if .Sound}}<p class="good">The evidence is sound: every record of the store is there, unchanged and in its place.</p>
{{else}}<p class="bad">The evidence is NOT sound.</p><ul>{{range .Faults}}<li>{{line .String}}</li>{{end}}</ul>{{end}}
<h2>Requirements</h2>
<table><tr><th>Requirement</th><th>What the evidence shows</th><th>In report.json</th></tr>
{{range .Controls}}<tr><td>{{.Citation}}<br>{{.Title}}</td><td>{{line .Shows}}</td><td>{{.Where}}</td></tr>{{end}}</table>
{{define "sums"}}<table><tr><th>Name</th><th>Sessions</th><th>Statements</th><th>Masked</th><th>Refused</th><th>Rows</th><th>Relations</th></tr>
{{range .}}<tr><td>{{line .Name}}</td><td>{{.Sessions}}</td><td>{{.Statements}}</td><td>{{.Masked}}</td><td>{{.Refused}}</td><td>{{.Rows}}</td><td>{{list .Relations}}</td></tr>{{end}}</table>{{end}}
<h2>By identity</h2>{{template "sums" .Identities}}
<h2>By principal</h2>{{template "sums" .Principals}}
{{define "accesses"}}<table><tr><th>Time</th><th>Who</th><th>What</th><th>Decision</th><th>Outcome</th></tr>
{{range cut .}}<tr><td>{{t .Time}}<br>{{line .Host}}<br><code>{{line .Record}}</code></td>
<td>{{line .Workload}}{{with .Agent}}<br>agent {{line .}}{{end}}{{with .Principal}}<br>for {{line .}}{{end}}{{with .Proof}}<br>proved by {{line .}}{{end}}</td>
<td>{{line .Resource}} {{line .Database}}<br>{{list .Relations}}<br><code>{{line .Query}}</code></td>
<td>{{line .Verdict}}{{with .Rules}}<br>rules {{list .}}{{end}}{{with .Reason}}<br>{{line .}}{{end}}{{with .Masked}}<br>masked {{list .}}{{end}}
{{with .Revealed}}<br>in clear {{list .}}{{end}}{{with .Justification}}<br>because: {{line .}}{{end}}{{with .Approvals}}<br>approvals {{list .}}{{end}}</td>
<td>{{line .Outcome}}<br>{{.Rows}} rows{{with .Subject}}<br>the subject's: {{line .}}{{end}}</td></tr>{{end}}</table>
{{with more .}}<p>{{.}} more are in report.json.</p>{{end}}{{end}}
<h2>Accesses</h2>{{template "accesses" .Accesses}}
<h2>Refused</h2>{{template "accesses" .Refused}}
<h2>Approvals</h2>
<table><tr><th>Time</th><th>Request</th><th>Step</th><th>Who asked</th><th>Who decided</th><th>Why</th></tr>
{{range .Approvals}}<tr><td>{{t .Time}}</td><td>{{line .ID}}<br>rule {{line .Rule}}</td><td>{{line .Step}}</td><td>{{line .Workload}} {{line .Approval.Actor}}{{with .Approval.Principal}}<br>for {{line .}}{{end}}</td>
<td>{{line .Approver}}{{with .Approval.Proof}}<br>proved by {{line .}}{{end}}</td><td>{{line .Why}}</td></tr>{{end}}</table>
{{define "notes"}}<table><tr><th>Time</th><th>Host</th><th>What</th><th></th></tr>
{{range .}}<tr><td>{{t .Time}}</td><td>{{line .Host}}</td><td>{{line .What}}</td><td>{{line .Text}}</td></tr>{{end}}</table>{{end}}
<h2>Policies in force</h2>{{template "notes" .Policies}}
<h2>Hosts</h2>{{template "notes" .Hosts}}
<h2>Alarms of the recorder</h2>
<table><tr><th>Time</th><th>Host</th><th>What</th><th></th></tr>
{{range .Alarms}}<tr><td>{{t .Time}}</td><td>{{line .Host}}</td><td>{{line .What}}</td><td>{{line .Detail}}</td></tr>{{end}}</table>
<h2>Who read the evidence</h2>{{template "notes" .Reads}}
<h2>Chains</h2>
<table><tr><th>Host</th><th>Chain</th><th>Records</th><th>Last</th><th>Hash of the last</th><th>File</th></tr>
{{range .Chains}}<tr><td>{{line .Host}}</td><td><code>{{line .Chain}}</code></td><td>{{.Records}}</td><td>{{.Last}}</td><td><code>{{.Hash}}</code></td><td>{{.File}}</td></tr>{{end}}</table>
{{with .Log}}<p>The records are in the transparency log {{line .Origin}}, which had {{.Size}} entries and the root <code>{{.Root}}</code>.</p>{{end}}
<p>README.txt says how to verify all of it offline.</p>
</body></html>
`))

// HTML returns the report as a page for people.
func HTML(r *Report) ([]byte, error) {
	var b bytes.Buffer
	if err := page.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return b.Bytes(), nil
}
