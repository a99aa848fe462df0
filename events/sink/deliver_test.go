package sink_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/events/sink"
)

// A target that refuses everything is away: nothing is given up, whatever the
// status, and whether it took something before or not.
func TestATargetThatRefusesEverything(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		target string
		code   int
		serve  func(t *testing.T, k *taken) http.HandlerFunc
	}{
		"webhook 400": {"webhook: {secret_file: secret, url: ", 400, hook},
		"webhook 422": {"webhook: {secret_file: secret, url: ", 422, hook},
		"splunk":      {"splunk: {token_file: token, url: ", 400, func(t *testing.T, k *taken) http.HandlerFunc { return splunk(t, k, false) }},
		"elastic":     {"elasticsearch: {user: elastic, password_file: password, url: ", 400, bulk},
		"each event":  {"elasticsearch: {user: elastic, password_file: password, url: ", 200, bulk},
	} {
		for _, before := range []int{0, 5} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var k taken
				var away atomic.Bool
				serve := c.serve(t, &k)
				p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
					if !away.Load() {
						serve(w, r)
						return
					}
					b, _ := io.ReadAll(r.Body)
					if c.code == 200 {
						one := `{"create":{"status":400,"error":{"type":"document_parsing_exception"}}}`
						n := strings.Count(string(b), "\n") / 2
						io.WriteString(w, `{"items":[`+strings.TrimSuffix(strings.Repeat(one+",", n), ",")+`]}`)
						return
					}
					w.WriteHeader(c.code)
					io.WriteString(w, `{"text":"Invalid data format","code":6}`)
				})
				w := newWorld(t, "it")
				s := load(t, "  "+c.target+p.URL+"}\n")
				retries := make(chan bool, 1000)
				w.runSink(t, s, sink.Hooks{Retry: func(error) { retries <- true }})
				w.add(before)
				k.until(t, uids(before))
				away.Store(true)
				w.add(30)
				rounds := 1
				if before > 0 {
					rounds = 3
				}
				for range rounds {
					select {
					case <-retries:
					case <-time.After(wait):
						t.Fatal("nothing was tried")
					}
				}
				away.Store(false)
				k.until(t, uids(30+before))
				w.acknowledged(t)
				if got := rejectedOf(t, s); len(got) > 0 {
					t.Errorf("given up: %v", got)
				}
			})
		}
	}
}

// An event that is refused alone is given up when the target takes another.
func TestATargetThatRefusesOneEventAlone(t *testing.T) {
	t.Parallel()
	var k taken
	serve := hook(t, &k)
	p := newPeer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if strings.Contains(string(b), `"id":"c1-3"`) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		serve(w, r)
	})
	w := newWorld(t, "it")
	s := load(t, "  webhook: {url: "+p.URL+", secret_file: secret}\n")
	w.runSink(t, s, sink.Hooks{})
	for n := range 3 {
		w.add(1)
		if n != 1 {
			k.until(t, uids(n + 1)[n:])
		}
	}
	w.acknowledged(t)
	if got := rejectedOf(t, s); !slices.Equal(got, []string{"c1-3"}) {
		t.Errorf("refused: %v", got)
	}
}

// hook takes what a webhook posts.
func hook(t *testing.T, k *taken) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		var list []struct{ ID string }
		if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		for _, e := range list {
			k.add(e.ID)
		}
	}
}

// bulk takes all that a bulk request creates.
func bulk(t *testing.T, k *taken) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var items []string
		for d := json.NewDecoder(r.Body); ; {
			var line struct {
				Create struct {
					ID string `json:"_id"`
				} `json:"create"`
			}
			if err := d.Decode(&line); err == io.EOF {
				break
			} else if err != nil {
				t.Error(err)
				return
			}
			if line.Create.ID != "" {
				k.add(line.Create.ID)
				items = append(items, `{"create":{"status":201}}`)
			}
		}
		io.WriteString(w, `{"items":[`+strings.Join(items, ",")+`]}`)
	}
}
