package sink

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/internal/outbound"
)

// severity returns OCSF's severity_id, which the kind and the verdict decide.
func severity(e *Event) int {
	switch e.Kind {
	case events.Bypass, events.Alarm:
		return 4
	case events.Block, events.Drift:
		return 3
	case events.Login, events.Statement:
		if v := e.View.Verdict; v == "deny" || v == "block" || v == "observed" {
			return 3
		}
	}
	return 1
}

var (
	cefHeader    = strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	cefExtension = strings.NewReplacer(`\`, `\\`, `=`, `\=`)
)

// names of kinds in CEF's header.
var names = map[events.Kind]string{
	events.SessionOpen: "Session opened", events.SessionClose: "Session closed", events.Statement: "Statement decided",
	events.Response: "Statement ended", events.Login: "Login decided", events.Block: "Statement refused",
	events.Bypass: "Bypass attempted", events.Drift: "Policy and catalog disagree", events.Alarm: "Alarm",
	events.Checkpoint: "Chain signed", events.Lifecycle: "Lifecycle",
	events.Subjects: "Subjects of rows named", events.ApprovalRequest: "Approval requested", events.ApprovalDecision: "Approval decided",
}

// CEF returns an event in the Common Event Format, version 0 (ArcSight
// "Implementing ArcSight Common Event Format", revision 25), of at most most
// bytes: an extension that has no room is left out.
func CEF(e *Event, most int) string {
	v := &e.View
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|sallyport.dev|sallyport|%s|%s|%s|%d|", cefHeader.Replace(productVersion(e)),
		cefHeader.Replace(e.Kind.String()), cefHeader.Replace(names[e.Kind]), [...]int{0, 3, 4, 6, 8, 9, 10}[severity(e)])
	first := true
	add := func(key, value string) {
		if value == "" {
			return
		}
		value = cefExtension.Replace(outbound.Clean(value, 1023))
		if b.Len()+1+len(key)+1+len(value) > most {
			return
		}
		if !first {
			b.WriteByte(' ')
		}
		first = false
		b.WriteString(key + "=" + value)
	}
	number := func(key string, n int64) {
		if n != 0 {
			add(key, strconv.FormatInt(n, 10))
		}
	}
	custom := func(key, label, value string) {
		if value != "" {
			add(key, value)
			add(key+"Label", label)
		}
	}
	add("externalId", e.UID)
	add("rt", strconv.FormatInt(v.Time.UnixMilli(), 10))
	add("dvchost", e.Host)
	add("cat", e.Kind.String())
	add("act", v.Verdict)
	add("outcome", v.Status)
	add("suser", v.Actor)
	add("suid", v.Workload)
	custom("cs1", "principal", v.Principal)
	custom("cs2", "resource", v.Resource)
	custom("cs3", "rules", strings.Join(v.Rules, ","))
	custom("cs4", "masked", strings.Join(v.Masked, ","))
	custom("cs5", "objects", strings.Join(v.Objects, ","))
	custom("cs6", "actors", strings.Join(v.Actors, ","))
	if v.Source.IsValid() {
		add("src", v.Source.Addr().String())
		number("spt", int64(v.Source.Port()))
	}
	if v.Destination.IsValid() {
		add("dst", v.Destination.Addr().String())
		number("dpt", int64(v.Destination.Port()))
	}
	add("duser", v.User)
	add("proto", strings.ToUpper(v.Transport))
	add("app", v.Protocol)
	number("spid", int64(v.Process.PID))
	add("sproc", v.Process.Exe)
	if v.Status != "" {
		number("out", v.Bytes)
		custom("cn1", "rows", strconv.FormatInt(v.Rows, 10))
	}
	if v.Number != 0 {
		custom("cn2", "statement", strconv.FormatUint(v.Number, 10))
	}
	number("cn3", int64(v.Duration/time.Millisecond))
	if v.Duration >= time.Millisecond {
		add("cn3Label", "milliseconds")
	}
	custom("flexString1", "session", v.Session)
	custom("flexString2", "justification", v.Justification)
	add("reason", v.Reason)
	add("msg", firstOf(v.Message, v.Normalized))
	return b.String()
}

// productVersion finds metadata.product.version, of whoever wrote the event.
func productVersion(e *Event) string {
	_, after, _ := strings.Cut(string(e.JSON), `"vendor_name":"sallyport.dev","version":"`)
	version, _, ok := strings.Cut(after, `"`)
	if !ok {
		return "unknown"
	}
	return outbound.Clean(version, 63)
}

// firstOf returns the first that is not empty.
func firstOf(s ...string) string {
	for _, s := range s {
		if s != "" {
			return s
		}
	}
	return ""
}
