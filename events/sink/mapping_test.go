package sink_test

import (
	"encoding/json"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// Every kind of event has a place in each mapping.
func TestEveryKindIsMapped(t *testing.T) {
	for k := events.Kind(1); k.String() != ""; k++ {
		b := ocsf.Append(nil, "c-1", &events.Event{Kind: k, Time: time.Now(), Session: session, Approval: &events.Approval{ID: "a"}, Status: "ok"})
		v, err := ocsf.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		e := &sink.Event{UID: "c-1", Host: "h1", Kind: k, View: v, JSON: b}
		if head, _ := cef(t, sink.CEF(e, 8192)); head[4] != k.String() || head[5] == "" {
			t.Errorf("%s: CEF %q", k, head)
		}
		if sink.CIM(e)["signature"] == nil {
			t.Errorf("%s: CIM %v", k, sink.CIM(e))
		}
		ecs, err := sink.ECS(e)
		var doc struct {
			Event struct {
				Kind, Outcome  string
				Category, Type []string
			}
		}
		if err != nil || json.Unmarshal(ecs, &doc) != nil || doc.Event.Kind == "" || len(doc.Event.Category) == 0 || len(doc.Event.Type) == 0 || doc.Event.Outcome == "" {
			t.Errorf("%s: %v ECS %s", k, err, ecs)
		}
		// The class that the envelope names is the event's own.
		ce, err := sink.CloudEvent(e)
		var env struct{ DataSchema string }
		var ev struct {
			ClassUID int `json:"class_uid"`
		}
		if err != nil || json.Unmarshal(ce, &env) != nil || json.Unmarshal(b, &ev) != nil {
			t.Fatal(err)
		}
		want := map[int]string{6005: "datastore_activity", 6002: "application_lifecycle", 4001: "network_activity", 2004: "detection_finding"}[ev.ClassUID]
		if env.DataSchema != "https://schema.ocsf.io/1.7.0/classes/"+want {
			t.Errorf("%s: %s, class %d", k, env.DataSchema, ev.ClassUID)
		}
	}
}
