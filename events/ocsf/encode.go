// Package ocsf gives events their published form: JSON after the Open
// Cybersecurity Schema Framework (https://schema.ocsf.io), version 1.7.0.
// docs/events.md describes each field.
//
// What OCSF has no place for stands in "unmapped". Nothing here tells a
// literal, a bind or a statement's exact text: literals stand as keyed digests.
package ocsf

import (
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

const timeFormat = "2006-01-02T15:04:05.000000000Z"

var productVersion = func() string {
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" && bi.Main.Version != "(devel)" {
		return bi.Main.Version
	}
	return "dev"
}()

// Append appends an event to dst as one JSON object. uid is the event's
// unique id, "<chain>-<seq>". It allocates nothing but room in dst, and once
// per session.
func Append(dst []byte, uid string, ev *events.Event) []byte {
	s := ev.Session
	if s == nil {
		s = &nobody
	}
	objects, unmapped, cut := sessionParts(s)
	e := enc{b: append(dst, '{'), cut: cut}
	c := classOf(ev.Kind)
	a, sev, st := activity(ev), severity(ev), status(ev)
	e.num("activity_id", a.n)
	if a.name == "" {
		e.str("activity_name", name(own(ev)), capName)
	} else {
		e.word("activity_name", a.name)
	}
	e.num("category_uid", c.category)
	e.word("category_name", c.categoryName)
	e.num("class_uid", c.uid)
	e.word("class_name", c.name)
	e.num("type_uid", c.uid*100+a.n)
	e.num("severity_id", sev.n)
	e.word("severity", sev.name)
	e.num("time", ev.Time.UnixMilli())
	e.key("time_dt")
	e.b = append(ev.Time.UTC().AppendFormat(append(e.b, '"'), timeFormat), '"')
	e.num("status_id", st.n)
	if st.n == other {
		e.str("status", ev.Status, capName)
	} else {
		e.word("status", st.name)
	}
	e.str("status_code", ev.Code, capName)
	e.str("status_detail", ev.Reason, capText)
	e.str("message", ev.Message, capText)
	if ev.Duration > 0 {
		e.num("duration", ev.Duration.Milliseconds())
	}
	e.verdict(ev)
	switch c {
	case datastore:
		if ev.Normalized != "" || ev.Fingerprint != 0 {
			e.query(ev)
		}
		e.b = append(e.b, objects...)
	case finding:
		e.finding(ev, uid, objects)
	case network:
		e.network(ev, s, objects)
	case lifecycle:
		e.open("app")
		e.product()
		e.close()
	}
	if c != datastore {
		e.device(s)
	}
	e.open("unmapped")
	e.b = append(e.b, unmapped...)
	e.tls("server_tls", s.ServerTLS.Load())
	if from := s.ServerFrom.Load(); from != nil {
		e.key("server_from")
		e.b = append(from.AppendTo(append(e.b, '"')), '"')
	}
	e.unmapped(ev)
	e.close()
	e.metadata(ev, s, uid)
	e.close()
	return e.b
}

var nobody events.Session

// own is the event's own word for an activity that OCSF does not list.
func own(ev *events.Event) string {
	switch ev.Kind {
	case events.Lifecycle, events.ApprovalRequest, events.ApprovalDecision:
		return ev.Status
	}
	return ev.Command
}

func (e *enc) verdict(ev *events.Event) {
	var action, disposition id
	switch {
	case decided(ev.Kind):
		action, disposition = control(ev.Verdict)
	case ev.Kind == events.Bypass:
		action, disposition = control(events.Blocked)
		if ev.Verdict == events.Observed {
			action, disposition = control(ev.Verdict)
		}
	default:
		return
	}
	e.num("action_id", action.n)
	e.word("action", action.name)
	e.num("disposition_id", disposition.n)
	e.word("disposition", disposition.name)
	if action.n == 2 {
		e.yes("is_alert")
	}
	if len(ev.Rules) == 0 {
		return
	}
	e.key("authorizations")
	e.b = append(e.b, '[')
	for i, r := range ev.Rules {
		if i == capList {
			e.cut = true
			break
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = append(e.b, '{')
		e.word("decision", ev.Verdict.String())
		e.open("policy")
		e.str("name", name(r), capName)
		e.close()
		e.close()
	}
	e.b = append(e.b, ']')
}

// name is for places where OCSF demands a text.
func name(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func (e *enc) query(ev *events.Event) {
	e.open("query_info")
	e.str("query_string", name(ev.Normalized), capStatement)
	e.hex64("uid", ev.Fingerprint)
	if ev.Bytes > 0 {
		e.num("bytes", ev.Bytes)
	}
	e.close()
}

func (e *enc) finding(ev *events.Event, uid string, objects []byte) {
	e.open("finding_info")
	e.str("uid", uid, capName)
	if ev.Kind == events.Drift {
		e.word("title", "Policy and catalog disagree")
	} else {
		e.word("title", "Something needs an operator")
	}
	e.str("desc", ev.Message, capText)
	e.close()
	e.yes("is_alert")
	if ev.Session != nil && ev.Session.ID != "" {
		e.key("evidences")
		e.b = append(e.b, "[{"...)
		e.b = append(e.b, objects[1:]...) // without its comma
		e.b = append(e.b, "}]"...)
	}
}

func (e *enc) network(ev *events.Event, s *events.Session, objects []byte) {
	if p := ev.Process; p != nil || s.ID != "" {
		if p == nil {
			p = &s.Process
		}
		e.open("actor")
		e.process(p)
		e.close()
	}
	e.open("src_endpoint")
	e.str("hostname", name(s.Host), capName)
	if ev.Source.IsValid() {
		e.ip("ip", ev.Source.Addr())
		e.num("port", int64(ev.Source.Port()))
	}
	e.close()
	dst := ev.Destination
	if !dst.IsValid() {
		dst = s.Destination
	}
	if dst.IsValid() {
		e.open("dst_endpoint")
		e.ip("ip", dst.Addr())
		e.num("port", int64(dst.Port()))
		e.close()
		e.open("connection_info")
		e.num("direction_id", 2)
		e.word("direction", "Outbound")
		e.str("protocol_name", ev.Transport, capName)
		e.num("protocol_ver_id", ipVersion(dst.Addr().Unmap().Is4()))
		e.close()
	}
}

func ipVersion(four bool) int64 {
	if four {
		return 4
	}
	return 6
}

func (e *enc) product() {
	e.word("name", "sallyport")
	e.word("vendor_name", "sallyport.dev")
	e.str("version", productVersion, capName)
}

func (e *enc) metadata(ev *events.Event, s *events.Session, uid string) {
	e.open("metadata")
	e.word("version", Version)
	e.open("product")
	e.product()
	e.close()
	e.key("profiles")
	e.b = append(e.b, `["datetime","host","security_control"]`...)
	e.word("event_code", ev.Kind.String())
	e.str("uid", uid, capName)
	if i := strings.LastIndexByte(uid, '-'); i >= 0 {
		if n, err := strconv.ParseInt(uid[i+1:], 10, 64); err == nil {
			e.num("sequence", n)
		}
	}
	e.str("correlation_uid", s.ID, capName)
	if e.cut {
		e.yes("is_truncated")
	}
	e.close()
}

// unmapped writes what OCSF has no place for; the session's part stands
// before it.
func (e *enc) unmapped(ev *events.Event) {
	if ev.Number != 0 {
		e.count("statement", ev.Number)
	}
	e.str("command", ev.Command, capName)
	if ev.Fingerprint != 0 {
		e.hex64("fingerprint", ev.Fingerprint)
	}
	if len(ev.Literals) > 0 {
		e.key("literals")
		e.b = append(e.b, '[')
		for i := range ev.Literals {
			if i == capList {
				e.cut = true
				break
			}
			if i > 0 {
				e.b = append(e.b, ',')
			}
			e.b = append(e.b, '"')
			e.hex(ev.Literals[i][:])
			e.b = append(e.b, '"')
		}
		e.b = append(e.b, ']')
	}
	if ev.Writes {
		e.yes("writes")
	}
	if decided(ev.Kind) {
		e.word("verdict", ev.Verdict.String())
	}
	e.list("rules", ev.Rules)
	e.list("objects", ev.Objects)
	if len(ev.Masked) > 0 {
		e.key("masked")
		e.fields(ev.Masked)
	}
	e.list("masks", ev.Masks)
	if len(ev.Revealed) > 0 {
		e.key("revealed")
		e.fields(ev.Revealed)
		e.str("justification", ev.Justification, capText)
	}
	e.subjects(ev)
	e.str("remedy", ev.Remedy, capText)
	e.list("approvals", ev.Approvals)
	e.approval(ev.Approval)
	e.would(ev)
	if ev.Unplaced {
		e.yes("unplaced")
	}
	e.str("outcome", ev.Status, capName)
	if ev.Kind == events.Response || ev.Kind == events.SessionClose || ev.Kind == events.Statement && ev.Status != "" {
		e.num("rows", ev.Rows)
		e.num("bytes", ev.Bytes)
		if ev.BytesIn > 0 {
			e.num("bytes_in", ev.BytesIn)
		}
		e.num("recorded", ev.Recorded)
		e.num("duration_ns", int64(ev.Duration/time.Nanosecond))
	}
	e.detected(ev.Detected)
	if ev.Hash != [32]byte{} {
		e.key("result_sha256")
		e.b = append(e.b, '"')
		e.hex(ev.Hash[:])
		e.b = append(e.b, '"')
	}
	if ev.Process != nil && ev.Kind != events.Bypass {
		e.process(ev.Process)
	}
	if ev.Process != nil {
		e.str("process_cgroup", ev.Process.Cgroup, capName)
		if ev.Session == nil || ev.Session.Workload == "" {
			e.str("workload", ev.Process.Workload, capName)
		}
	}
	if ev.Kind != events.Bypass {
		if ev.Source.IsValid() {
			e.key("source")
			e.b = append(ev.Source.AppendTo(append(e.b, '"')), '"')
		}
		if ev.Destination.IsValid() {
			e.key("target")
			e.b = append(ev.Destination.AppendTo(append(e.b, '"')), '"')
		}
		e.str("transport", ev.Transport, capName)
	}
}

// approval writes a step of a request for approval.
func (e *enc) approval(a *events.Approval) {
	if a == nil {
		return
	}
	e.open("approval")
	e.str("id", a.ID, capName)
	e.str("step", a.Step, capName)
	e.str("rule", a.Rule, capName)
	e.str("digest", a.Digest, capName)
	e.str("policy", a.Policy, capName)
	e.str("covers", a.Covers, capName)
	if !a.Until.IsZero() {
		e.key("until")
		e.b = append(a.Until.UTC().AppendFormat(append(e.b, '"'), timeFormat), '"')
	}
	e.num("uses", int64(a.Uses))
	if a.Lacks > 0 {
		e.num("lacks", int64(a.Lacks))
	}
	e.str("workload", a.Workload, capName)
	e.str("actor", a.Actor, capName)
	e.str("principal", a.Principal, capName)
	e.str("resource", a.Resource, capName)
	e.str("database", a.Database, capName)
	e.str("session", a.Session, capName)
	e.str("approver", a.Approver, capName)
	e.str("issuer", a.Issuer, capName)
	e.str("proof", a.Proof, capName)
	e.str("why", a.Why, capText)
	e.close()
}

// would writes what rules that only observe would have done.
func (e *enc) would(ev *events.Event) {
	if ev.Would == 0 {
		return
	}
	e.word("would", ev.Would.String())
	e.list("would_rules", ev.WouldRules)
	e.str("would_reason", ev.WouldReason, capText)
	if len(ev.WouldMasked) > 0 {
		e.key("would_masked")
		e.fields(ev.WouldMasked)
	}
	e.list("would_filtered", ev.WouldFiltered)
}

// detected writes what was found in a result, and where.
func (e *enc) detected(list []events.Detection) {
	if len(list) == 0 {
		return
	}
	e.key("detected")
	e.b = append(e.b, '[')
	for i := range list {
		if i == capList {
			e.cut = true
			break
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		d := &list[i]
		e.b = append(e.b, '{')
		e.num("column", int64(d.Column))
		if d.Field != (events.Field{}) {
			e.key("field")
			e.field(&d.Field)
		}
		e.str("kind", d.Kind, capName)
		e.num("count", d.Count)
		e.close()
	}
	e.b = append(e.b, ']')
}

func (e *enc) fields(list []events.Field) {
	e.b = append(e.b, '[')
	for i := range list {
		if i == capList {
			e.cut = true
			break
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.field(&list[i])
	}
	e.b = append(e.b, ']')
}

// field writes schema.relation.column without making the string.
func (e *enc) field(f *events.Field) {
	e.b = append(e.b, '"')
	for i, s := range [...]string{f.Schema, f.Relation, f.Column} {
		if i > 0 {
			e.b = append(e.b, '.')
		}
		if len(s) > capName {
			s, e.cut = s[:capName], true
		}
		e.escape(s)
	}
	e.b = append(e.b, '"')
}
