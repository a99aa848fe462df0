package sink_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/sink"
)

// splunk is a collector that has the events it answers for.
func splunk(t *testing.T, k *taken, acks bool) http.HandlerFunc {
	var asked atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Splunk t0k" {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"text":"Invalid token","code":4}`)
			return
		}
		if acks && r.Header.Get("X-Splunk-Request-Channel") == "" {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"text":"Data channel is missing","code":10}`)
			return
		}
		if r.URL.Path == "/services/collector/ack" {
			// Indexed at the second look.
			fmt.Fprintf(w, `{"acks":{"7":%v}}`, asked.Add(1) > 1)
			return
		}
		if r.URL.Path != "/services/collector/event" {
			t.Errorf("request for %s", r.URL.Path)
		}
		d := json.NewDecoder(r.Body)
		for {
			var e struct {
				Time                          json.Number
				Host, Source, SourceType, Idx string
				Event                         json.RawMessage
				Fields                        map[string]any
			}
			if err := d.Decode(&e); err == io.EOF {
				break
			} else if err != nil {
				t.Error(err)
				return
			}
			v, err := ocsf.Decode(e.Event)
			sec, _ := e.Time.Float64()
			if err != nil || e.Host != "h1" || e.SourceType != "sallyport:ocsf" || e.Fields["action"] != "blocked" || int64(sec) != v.Time.Unix() {
				t.Errorf("%v: %+v", err, e)
			}
			for name, f := range e.Fields { // indexed fields are flat
				if _, ok := f.(map[string]any); ok {
					t.Errorf("field %s is an object", name)
				}
			}
			k.add(v.UID)
		}
		if acks {
			io.WriteString(w, `{"text":"Success","code":0,"ackId":7}`)
			return
		}
		io.WriteString(w, `{"text":"Success","code":0}`)
	}
}

func TestSplunkThroughFaults(t *testing.T) {
	t.Parallel()
	for name, acks := range map[string]bool{"received": false, "indexed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var k taken
			p := newPeer(t, splunk(t, &k, acks), later, status(503, `{"text":"Server is busy","code":9}`), reset, hang, half,
				status(403, `{"text":"Invalid token","code":4}`), status(400, `{"text":"Incorrect index","code":7}`), status(200, "<html>login</html>"))
			w := newWorld(t, "it")
			s := load(t, fmt.Sprintf("  splunk: {url: %s, token_file: token, acks: %v}\n", p.URL, acks))
			w.runSink(t, s, sink.Hooks{})
			w.add(40)
			k.until(t, uids(40))
			w.acknowledged(t)
			if got := k.list(); !slices.Equal(got, uids(40)) || p.left() > 0 || len(rejectedOf(t, s)) > 0 {
				t.Errorf("%v, %d faults left, %v refused", got, p.left(), rejectedOf(t, s))
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if strings.Contains(strings.Join(p.bodies, ""), "PLANTED") {
				t.Error("a transcript went out")
			}
		})
	}
}

// One event that a collector can't take is written down, the others arrive.
func TestSplunkRefusesOne(t *testing.T) {
	t.Parallel()
	var k taken
	serve := splunk(t, &k, false)
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), `"uid":"c1-15"`) {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"text":"Invalid data format","code":6,"invalid-event-number":3}`)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		serve(w, r)
	})
	w := newWorld(t, "it")
	s := load(t, "  splunk: {url: "+p.URL+", token_file: token}\n")
	w.runSink(t, s, sink.Hooks{})
	w.add(20)
	want := slices.DeleteFunc(uids(20), func(u string) bool { return u == "c1-15" })
	k.until(t, want)
	w.acknowledged(t)
	if got := rejectedOf(t, s); !slices.Equal(got, []string{"c1-15"}) {
		t.Errorf("refused: %v", got)
	}
}

// What a collector says of an event repeats it, and stands in no log.
func TestSplunkAnswersAreNotRepeated(t *testing.T) {
	t.Parallel()
	var k taken
	p := newPeer(t, splunk(t, &k, false), status(400, `{"text":"PLANTED","code":7}`), status(503, `{"text":"PLANTED","code":9}`))
	w := newWorld(t, "it")
	said := make(chan string, 100)
	w.runSink(t, load(t, "  splunk: {url: "+p.URL+", token_file: token}\n"), sink.Hooks{Retry: func(err error) { said <- err.Error() }})
	w.add(1)
	k.until(t, uids(1))
	for range 2 {
		if s := <-said; strings.Contains(s, "PLANTED") || !strings.Contains(s, ", code ") {
			t.Error(s)
		}
	}
}

// elastic is a bulk end point with a document for each id. The first two times that
// it sees c1-3 it is too busy for it, and it never takes c1-5.
func elastic(t *testing.T, k *taken) http.HandlerFunc {
	var busy atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		user, pw, _ := r.BasicAuth()
		if r.URL.Path != "/_bulk" || r.Header.Get("Content-Type") != "application/x-ndjson" || user != "elastic" || pw != "pw" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		in := bufio.NewScanner(r.Body)
		in.Buffer(nil, 1<<20)
		var items []string
		errs := false
		for in.Scan() {
			var action struct {
				Create struct {
					Index string `json:"_index"`
					ID    string `json:"_id"`
				} `json:"create"`
			}
			if err := json.Unmarshal(in.Bytes(), &action); err != nil || action.Create.Index != "logs-sallyport.audit-default" || !in.Scan() {
				t.Errorf("%v: %s", err, in.Bytes())
			}
			var doc struct {
				Time  time.Time `json:"@timestamp"`
				Event struct{ ID, Original, Outcome string }
				User  struct{ Name string }
			}
			id := action.Create.ID
			if err := json.Unmarshal(in.Bytes(), &doc); err != nil || doc.Event.ID != id || doc.User.Name != session.Actor || doc.Event.Outcome != "failure" {
				t.Errorf("%v: %s", err, in.Bytes())
			}
			if v, err := ocsf.Decode([]byte(doc.Event.Original)); err != nil || !v.Time.Equal(doc.Time) {
				t.Error("event.original is not the published event")
			}
			code, why := 201, ""
			switch {
			case id == "c1-3" && busy.Add(1) <= 2:
				code, why = 429, `,"error":{"type":"es_rejected_execution_exception","reason":"PLANTED"}`
			case id == "c1-5":
				code, why = 400, `,"error":{"type":"document_parsing_exception","reason":"PLANTED"}`
			case k.count(id) > 0:
				code, why = 409, `,"error":{"type":"version_conflict_engine_exception"}`
			}
			errs = errs || code != 201
			if code == 201 {
				k.add(id)
			}
			items = append(items, fmt.Sprintf(`{"create":{"_index":"i","_id":%q,"status":%d%s}}`, id, code, why))
		}
		fmt.Fprintf(w, `{"took":1,"errors":%v,"items":[%s]}`, errs, strings.Join(items, ","))
	}
}

func TestElasticThroughFaults(t *testing.T) {
	t.Parallel()
	var k taken
	serve := elastic(t, &k)
	// The first request is carried out, and its answer lost: all of it is there.
	lost := func(w http.ResponseWriter, r *http.Request) { serve(discard{}, r); reset(w, r) }
	p := newPeer(t, serve, lost, later, status(503, ""), hang, half, status(200, `{"items":[]}`))
	w := newWorld(t, "it")
	s := load(t, "  elasticsearch: {url: "+p.URL+", user: elastic, password_file: password}\n")
	w.runSink(t, s, sink.Hooks{})
	w.add(30)
	want := slices.DeleteFunc(uids(30), func(u string) bool { return u == "c1-5" })
	k.until(t, want)
	w.acknowledged(t)
	for _, u := range want {
		if n := k.count(u); n != 1 {
			t.Errorf("%s is there %d times", u, n)
		}
	}
	if got := rejectedOf(t, s); !slices.Equal(got, []string{"c1-5"}) || p.left() > 0 {
		t.Errorf("refused: %v, %d faults left", got, p.left())
	}
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

func TestWebhookThroughFaults(t *testing.T) {
	t.Parallel()
	key, _ := base64.StdEncoding.DecodeString(strings.Repeat("QUJD", 8))
	var k taken
	serve := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if err := sink.CheckSignature(key, r.Header, b, time.Now()); err != nil {
			t.Error(err)
		}
		for name, bad := range map[string]func(http.Header) []byte{
			"body": func(http.Header) []byte { return append(slices.Clone(b), ' ') },
			"id":   func(h http.Header) []byte { h.Set("Webhook-Id", "msg_other"); return b },
			"time": func(h http.Header) []byte { h.Set("Webhook-Timestamp", "1"); return b },
		} {
			h := r.Header.Clone()
			if body := bad(h); sink.CheckSignature(key, h, body, time.Now()) == nil {
				t.Errorf("another %s passes for signed", name)
			}
		}
		var list []struct {
			SpecVersion, ID, Source, Type, Subject, DataContentType string
			Time                                                    time.Time
			Data                                                    json.RawMessage
		}
		if err := json.Unmarshal(b, &list); err != nil || r.Header.Get("Content-Type") != "application/cloudevents-batch+json; charset=utf-8" {
			t.Error(err)
		}
		for _, e := range list {
			v, err := ocsf.Decode(e.Data)
			if err != nil || e.SpecVersion != "1.0" || e.ID != v.UID || e.Source != "/sallyport/hosts/h1" || e.Type != "dev.sallyport.audit.block.v1" || !e.Time.Equal(v.Time) {
				t.Errorf("%v: %+v", err, e)
			}
			k.add(e.ID)
		}
		w.WriteHeader(http.StatusNoContent)
	}
	elsewhere := newPeer(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}
	p := newPeer(t, serve, later, status(503, ""), reset, hang, redirect, status(404, ""), status(413, ""))
	w := newWorld(t, "it")
	s := load(t, "  webhook: {url: "+p.URL+", secret_file: secret}\n")
	w.runSink(t, s, sink.Hooks{})
	w.add(25)
	k.until(t, uids(25))
	w.acknowledged(t)
	if p.left() > 0 || len(rejectedOf(t, s)) > 0 {
		t.Errorf("%d faults left, refused: %v", p.left(), rejectedOf(t, s))
	}
}

// A target that is away holds up its own sink only, and gets all of it when it
// is back, though the sink was killed meanwhile.
func TestATargetThatIsAway(t *testing.T) {
	t.Parallel()
	var near, far taken
	away := make(chan struct{})
	serve := splunk(t, &far, false)
	var calls atomic.Int64
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-away:
			serve(w, r)
		default:
			calls.Add(1)
			reset(w, r)
		}
	})
	q := newPeer(t, splunk(t, &near, false))
	w := newWorld(t, "it", "other")
	s := load(t, "  splunk: {url: "+p.URL+", token_file: token}\n")
	other := load(t, "  splunk: {url: "+q.URL+", token_file: token}\n")
	other.Sinks[0].Name = "other"
	stop := w.runSink(t, s, sink.Hooks{})
	w.runSink(t, other, sink.Hooks{})
	w.add(30)
	near.until(t, uids(30))
	for end := time.Now().Add(wait); calls.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it was not tried")
		}
	}
	if len(far.list()) > 0 {
		t.Fatal("it is not away")
	}
	stop()
	close(away)
	w.runSink(t, s, sink.Hooks{})
	w.add(5)
	far.until(t, uids(35))
	w.acknowledged(t)
}
