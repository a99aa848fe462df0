package sink

import (
	"encoding/json"
	"strings"

	"sallyport.dev/sallyport/events"
)

// CloudEvent returns an event in the envelope of CloudEvents 1.0, in its JSON
// format: the published event is its data.
func CloudEvent(e *Event) ([]byte, error) {
	c := struct {
		SpecVersion string          `json:"specversion"`
		ID          string          `json:"id"`
		Source      string          `json:"source"`
		Type        string          `json:"type"`
		Subject     string          `json:"subject,omitempty"`
		Time        string          `json:"time"`
		ContentType string          `json:"datacontenttype"`
		DataSchema  string          `json:"dataschema"`
		Data        json.RawMessage `json:"data"`
	}{
		SpecVersion: "1.0", ID: e.UID, Source: "/sallyport/hosts/" + e.Host, Type: "dev.sallyport.audit." + e.Kind.String() + ".v1",
		Subject: e.View.Session, Time: e.View.Time.UTC().Format("2006-01-02T15:04:05.999999999Z"),
		ContentType: "application/json", DataSchema: "https://schema.ocsf.io/1.7.0/classes/" + className(e.Kind), Data: e.JSON,
	}
	return json.Marshal(&c)
}

func className(k events.Kind) string {
	switch k {
	case events.Bypass:
		return "network_activity"
	case events.Alarm, events.Drift:
		return "detection_finding"
	case events.Checkpoint, events.Lifecycle, events.ApprovalRequest, events.ApprovalDecision:
		return "application_lifecycle"
	}
	return "datastore_activity"
}

// object is a JSON object under way; what is empty is left out.
type object map[string]any

func (o object) set(path string, v any) {
	switch x := v.(type) {
	case string:
		if x == "" {
			return
		}
	case []string:
		if len(x) == 0 {
			return
		}
	case int64:
		if x == 0 {
			return
		}
	}
	at := o
	parts := strings.Split(path, ".")
	for _, p := range parts[:len(parts)-1] {
		next, ok := at[p].(object)
		if !ok {
			next = object{}
			at[p] = next
		}
		at = next
	}
	at[parts[len(parts)-1]] = v
}

// ecsVersion is the version of the Elastic Common Schema that ECS writes.
const ecsVersion = "8.17.0"

// ECS returns an event in the Elastic Common Schema, with the published one in
// event.original. What ECS has no field for stands below "sallyport".
func ECS(e *Event) ([]byte, error) {
	v := &e.View
	o := object{}
	o.set("@timestamp", v.Time.UTC().Format("2006-01-02T15:04:05.000000000Z"))
	o.set("ecs.version", ecsVersion)
	o.set("message", firstOf(v.Message, v.Reason, v.Normalized))
	o.set("event.id", e.UID)
	o.set("event.original", string(e.JSON))
	o.set("event.module", "sallyport")
	o.set("event.dataset", "sallyport.audit")
	o.set("event.provider", "sallyport")
	o.set("event.action", e.Kind.String())
	kind, category, types := categorize(e)
	o.set("event.kind", kind)
	o.set("event.category", category)
	o.set("event.type", types)
	o.set("event.outcome", outcome(e))
	o.set("event.reason", v.Reason)
	o.set("event.code", v.Code)
	o.set("event.severity", int64([...]int{0, 21, 21, 47, 73, 99, 99}[severity(e)]))
	o.set("event.sequence", int64(v.Seq))
	o.set("event.duration", int64(v.Duration))
	o.set("observer.name", e.Host)
	o.set("observer.vendor", "sallyport.dev")
	o.set("observer.product", "sallyport")
	o.set("observer.type", "proxy")
	o.set("host.name", e.Host)
	o.set("user.name", v.Actor)
	o.set("user.target.name", firstOf(v.Account, v.User))
	o.set("rule.name", v.Rules)
	o.set("rule.ruleset", ruleset(v.Rules))
	o.set("service.name", v.Resource)
	o.set("service.type", v.Protocol)
	o.set("network.transport", v.Transport)
	o.set("network.protocol", v.Protocol)
	if v.Destination.IsValid() {
		o.set("destination.ip", v.Destination.Addr().WithZone("").String())
		o.set("destination.port", int64(v.Destination.Port()))
	}
	if v.Source.IsValid() {
		o.set("source.ip", v.Source.Addr().WithZone("").String())
		o.set("source.port", int64(v.Source.Port()))
	}
	o.set("process.pid", int64(v.Process.PID))
	o.set("process.executable", v.Process.Exe)
	o.set("process.name", v.Process.Comm)
	o.set("related.user", related(v.Actor, v.Principal, v.User, v.Account))
	o.set("related.hosts", related(e.Host))
	// Not flattened: what was read is searched by its members.
	for path, val := range map[string]any{
		"chain_uid": e.UID, "session": v.Session, "statement": int64(v.Number), "command": v.Command, "query": v.Normalized,
		"fingerprint": v.Fingerprint, "verdict": v.Verdict, "objects": v.Objects, "masked": v.Masked, "revealed": v.Revealed,
		"justification": v.Justification, "remedy": v.Remedy, "status": v.Status, "rows": v.Rows, "bytes": v.Bytes,
		"workload": v.Workload, "principal": v.Principal, "actors": v.Actors, "proof": v.Proof, "database": v.Database,
	} {
		if n, ok := val.(int64); ok && n == 0 && v.Status == "" {
			continue
		}
		o.set("sallyport."+path, val)
	}
	return json.Marshal(o)
}

// categorize returns event.kind, event.category and event.type.
func categorize(e *Event) (kind string, category, types []string) {
	switch e.Kind {
	case events.Login:
		return "event", []string{"authentication", "session"}, []string{"start"}
	case events.SessionOpen:
		return "event", []string{"session", "database"}, []string{"start"}
	case events.SessionClose:
		return "event", []string{"session", "database"}, []string{"end"}
	case events.Block:
		return "event", []string{"database"}, []string{"access", "denied"}
	case events.Statement:
		t := []string{"access"}
		if e.View.Writes {
			t = []string{"change"}
		}
		return "event", []string{"database"}, append(t, "allowed")
	case events.Response, events.Subjects:
		return "event", []string{"database"}, []string{"info"}
	case events.Bypass:
		return "alert", []string{"network", "intrusion_detection"}, []string{"connection", "denied"}
	case events.Alarm:
		return "alert", []string{"host"}, []string{"info"}
	case events.Drift:
		return "alert", []string{"configuration"}, []string{"change"}
	case events.Lifecycle:
		return "event", []string{"configuration"}, []string{"info"}
	case events.ApprovalRequest, events.ApprovalDecision:
		return "event", []string{"iam"}, []string{"info"}
	}
	return "event", []string{"host"}, []string{"info"}
}

// outcome is event.outcome: "unknown" where nothing has ended yet.
func outcome(e *Event) string {
	switch e.Kind {
	case events.Block, events.Bypass:
		return "failure"
	case events.Login:
		if v := e.View.Verdict; v != "allow" && v != "mask" && v != "observed" {
			return "failure"
		}
		return "success"
	case events.SessionOpen, events.Checkpoint, events.Lifecycle:
		return "success"
	case events.Response, events.SessionClose, events.Statement:
		switch e.View.Status {
		case "": // a statement that has not ended yet
			if e.Kind == events.Statement {
				return "unknown"
			}
			return "success"
		case "ok":
			return "success"
		case "error", "failed":
			return "failure"
		}
	}
	return "unknown"
}

func ruleset(rules []string) string {
	if len(rules) == 0 {
		return ""
	}
	return "sallyport"
}

func related(names ...string) (out []string) {
	seen := map[string]bool{"": true}
	for _, n := range names {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// CIM returns the fields of Splunk's Common Information Model that an event has
// (data models Authentication, Databases, Alerts and Network Traffic), as indexed
// fields beside the published event.
func CIM(e *Event) map[string]any {
	v := &e.View
	o := object{}
	flat := func(k string, val any) { o.set(k, val) }
	flat("vendor_product", "sallyport.dev sallyport")
	flat("sallyport_uid", e.UID)
	flat("signature", names[e.Kind])
	flat("signature_id", e.Kind.String())
	flat("dvc", e.Host)
	flat("app", firstOf(v.Protocol, "sallyport"))
	flat("user", v.Actor)
	flat("src_user", v.Principal)
	flat("session_id", v.Session)
	flat("instance_name", v.Resource)
	flat("object", v.Objects)
	flat("query", v.Normalized)
	flat("process_name", v.Process.Comm)
	flat("action", cimAction(e))
	flat("reason", v.Reason)
	flat("severity", [...]string{"", "informational", "low", "medium", "high", "critical", "critical"}[severity(e)])
	if v.Status != "" {
		flat("records_affected", v.Rows)
		flat("bytes_out", v.Bytes)
	}
	flat("response_time", v.Duration.Milliseconds())
	if v.Destination.IsValid() {
		flat("dest", v.Destination.Addr().String())
		flat("dest_port", int64(v.Destination.Port()))
	}
	flat("src", e.Host)
	if v.Source.IsValid() {
		flat("src", v.Source.Addr().String())
		flat("src_port", int64(v.Source.Port()))
	}
	flat("transport", v.Transport)
	return o
}

// cimAction is the model's own word for what became of it.
func cimAction(e *Event) string {
	failed := outcome(e) == "failure"
	switch e.Kind {
	case events.Login, events.SessionOpen:
		if failed {
			return "failure"
		}
		return "success"
	case events.Block, events.Bypass:
		return "blocked"
	case events.Statement:
		return "allowed"
	}
	return ""
}
