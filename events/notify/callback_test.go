package notify_test

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/notify"
	"sallyport.dev/sallyport/events/sink"
)

// A signed callback never decides: it is told where an approver logs in. What nobody
// signed, what is old and what came before does nothing.
func TestCallback(t *testing.T) {
	w := newWorld(t)
	p := newPeer(t, ok)
	address := make(chan string, 1)
	stop := w.run(w.load(hook(p.URL, "listen: 127.0.0.1:0\n")), listening(address))
	w.step("requested", 1)
	p.until(t, 1)
	at := "http://" + <-address + "/callbacks/hook"
	now, older := time.Now(), strings.Repeat("REVG", 8)
	about := fmt.Sprintf(`{"host":"h1","request":%q,"decision":"approve","why":"looks good to me"}`, id(1))
	call := func(name, secret, body string, when time.Time, change ...func(*http.Request)) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		ts := strconv.FormatInt(when.Unix(), 10)
		req.Header.Set("Webhook-Id", name)
		req.Header.Set("Webhook-Timestamp", ts)
		req.Header.Set("Webhook-Signature", sink.Sign(key(t, secret), name, ts, []byte(body)))
		for _, c := range change {
			c(req)
		}
		return do(t, req)
	}
	res := call("a", older, about, now)
	if res.StatusCode != http.StatusSeeOther || res.Header.Get("Location") != "https://recorder.example.org/approvals/h1/"+id(1) {
		t.Errorf("%d %s", res.StatusCode, res.Header.Get("Location"))
	}
	set := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	for name, c := range map[string]struct {
		res  *http.Response
		want int
	}{
		"again":         {call("a", older, about, now), 409},
		"again, signed": {call("a", strings.Repeat("QUJD", 8), about, now), 409},
		"forged":        {call("b", strings.Repeat("R0hJ", 8), about, now), 401},
		"old":           {call("c", older, about, now.Add(-6*time.Minute)), 401},
		"of the future": {call("d", older, about, now.Add(time.Hour)), 401},
		"another id":    {call("e", older, about, now, set("Webhook-Id", "f")), 401},
		"another time":  {call("g", older, about, now, set("Webhook-Timestamp", strconv.FormatInt(now.Unix()-1, 10))), 401},
		"unsigned":      {call("h", older, about, now, set("Webhook-Signature", "")), 401},
		"no JSON":       {call("i", older, "approve", now), 400},
		"not known":     {call("j", older, fmt.Sprintf(`{"host":"h2","request":%q}`, id(1)), now), 404},
		"no request":    {call("k", older, `{"host":"h1","request":"../x"}`, now), 404},
		"too long":      {call("l", older, strings.Repeat(" ", 2<<20)+about, now), 413},
		"a GET":         {call("m", older, about, now, func(r *http.Request) { r.Method = http.MethodGet }), 405},
		"no channel":    {call("n", older, about, now, func(r *http.Request) { r.URL.Path = "/callbacks/other" }), 404},
	} {
		if c.res.StatusCode != c.want || c.res.Header.Get("Location") != "" {
			t.Errorf("%s: %d", name, c.res.StatusCode)
		}
	}
	// A restart has not forgotten what came.
	stop()
	w.run(w.load(hook(p.URL, "listen: 127.0.0.1:0\n")), listening(address))
	at = "http://" + <-address + "/callbacks/hook"
	if res := call("a", older, about, now); res.StatusCode != 409 {
		t.Errorf("after a restart: %d", res.StatusCode)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var steps []string
	for _, e := range w.record {
		steps = append(steps, e.Kind.String()+" "+e.Approval.Step)
	}
	if got := strings.Join(steps, ", "); got != "approval.request notified, approval.request answered" {
		t.Error(got)
	}
}

// What can't be recorded is not answered, ends the run, and has not come: the next run
// answers it.
func TestCallbackWithoutARecord(t *testing.T) {
	w := newWorld(t)
	p := newPeer(t, ok)
	address := make(chan string, 1)
	done := make(chan error, 1)
	run := w.notifier(w.load(hook(p.URL, "listen: 127.0.0.1:0\n")), listening(address), func(n *notify.Notifier) {
		record := n.Record
		n.Record = func(e *events.Event) error {
			if e.Approval.Step == "answered" {
				return errors.New("the disk is full")
			}
			return record(e)
		}
	})
	go func() { done <- run(t.Context()) }()
	w.step("requested", 1)
	p.until(t, 1)
	body, ts := fmt.Sprintf(`{"host":"h1","request":%q}`, id(1)), strconv.FormatInt(time.Now().Unix(), 10)
	call := func() int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+<-address+"/callbacks/hook", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Webhook-Id", "a")
		req.Header.Set("Webhook-Timestamp", ts)
		req.Header.Set("Webhook-Signature", sink.Sign(key(t, strings.Repeat("QUJD", 8)), "a", ts, []byte(body)))
		return do(t, req).StatusCode
	}
	if code := call(); code != http.StatusInternalServerError {
		t.Errorf("answered %d", code)
	}
	var err error
	select {
	case err = <-done:
	case <-time.After(wait):
		t.Fatal("it goes on")
	}
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("it went on: %v", err)
	}
	w.run(w.load(hook(p.URL, "listen: 127.0.0.1:0\n")), listening(address))
	if code := call(); code != http.StatusSeeOther {
		t.Errorf("the next run answered %d", code)
	}
}
