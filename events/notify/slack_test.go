package notify_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/notify"
)

// workspace is Slack's Web API, as far as it is documented for these methods.
type workspace struct {
	mu       sync.Mutex
	n        int
	messages map[string]map[string]any // by ts
	posts    int
}

func (k *workspace) serve(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	say := func(v map[string]any) { json.NewEncoder(w).Encode(v) }
	if r.Header.Get("Authorization") != "Bearer xoxb-1" {
		say(map[string]any{"ok": false, "error": "invalid_auth"})
		return
	}
	var m map[string]any
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		say(map[string]any{"ok": false, "error": "invalid_json"})
		return
	}
	if why := badBlocks(m); why != "" {
		say(map[string]any{"ok": false, "error": "invalid_blocks", "response_metadata": why})
		return
	}
	if k.messages == nil {
		k.messages = map[string]map[string]any{}
	}
	ts, _ := m["ts"].(string)
	switch r.URL.Path {
	case "/api/chat.postMessage":
		k.n++
		k.posts++
		ts = fmt.Sprintf("1503435956.%06d", k.n)
		if m["channel"] != "C012AB3CD" {
			say(map[string]any{"ok": false, "error": "channel_not_found"})
			return
		}
	case "/api/chat.update":
		if k.messages[ts] == nil {
			say(map[string]any{"ok": false, "error": "message_not_found"})
			return
		}
	default:
		say(map[string]any{"ok": false, "error": "unknown_method"})
		return
	}
	k.messages[ts] = m
	say(map[string]any{"ok": true, "channel": m["channel"], "ts": ts})
}

// badBlocks says what Slack would not take (https://docs.slack.dev/reference/block-kit).
func badBlocks(m map[string]any) string {
	text, _ := m["text"].(string)
	blocks, _ := m["blocks"].([]any)
	if text == "" || len(blocks) == 0 || len(blocks) > 50 {
		return "text and 1 to 50 blocks"
	}
	size := func(o any, most int) string {
		t, _ := o.(map[string]any)
		s, _ := t["text"].(string)
		if n := utf8.RuneCountInString(s); n == 0 || n > most || t["type"] != "plain_text" && t["type"] != "mrkdwn" {
			return fmt.Sprintf("a text of %d characters", n)
		}
		return ""
	}
	for _, b := range blocks {
		b, _ := b.(map[string]any)
		why := ""
		switch b["type"] {
		case "header":
			why = size(b["text"], 150)
		case "section":
			fields, _ := b["fields"].([]any)
			if len(fields) > 10 {
				why = "fields"
			}
			for _, f := range fields {
				why += size(f, 2000)
			}
			if b["text"] != nil {
				why += size(b["text"], 3000)
			} else if fields == nil {
				why = "an empty section"
			}
		case "actions":
			for _, e := range b["elements"].([]any) {
				e, _ := e.(map[string]any)
				value, _ := e["value"].(string)
				link, _ := e["url"].(string)
				if why += size(e["text"], 75); e["type"] != "button" || len(value) > 2000 || len(link) > 3000 {
					why += "a button"
				}
			}
		case "context":
			for _, e := range b["elements"].([]any) {
				why += size(e, 3000)
			}
		default:
			why = "a block of no type"
		}
		if why != "" {
			return why
		}
	}
	return ""
}

// shown is the text of all messages.
func (k *workspace) shown(t *testing.T) (out []string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := 1; i <= k.n; i++ {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(k.messages[fmt.Sprintf("1503435956.%06d", i)]); err != nil {
			t.Fatal(err)
		}
		out = append(out, b.String())
	}
	return out
}

const slackConfig = `channels:
- name: leads
  slack: {token_file: token, channel: C012AB3CD, api: %q, signing_secret_files: [signing]}
people:
  alice: {slack: U012AB3CD}
on_call:
  dba: {file: oncall}
routes:
- steps:
  - {tell: [leads], people: [alice], on_call: [dba]}
`

// A message is posted with the people who are to look, and changed when the request has
// ended; rate limits are kept, and nothing that a client chose is more than text.
func TestSlack(t *testing.T) {
	w := newWorld(t)
	var k workspace
	p := newPeer(t, k.serve, later, status(200, `{"ok":false,"error":"internal_error"}`), status(200, `{"ok":false,"error":"not_in_channel"}`))
	w.write("oncall", "# night\nbob")
	w.run(w.load(fmt.Sprintf(slackConfig, p.URL+"/api")))
	w.step("requested", 1, func(e *events.Event) {
		e.Approval.Database = "<!channel> <@U99999999> <https://evil.example|click> & *b* `c` " + strings.Repeat("<", 10_000)
		e.Approval.Principal = "<!here|@here>"
		e.Approval.Rule = strings.Repeat("&", 5000)
	})
	until(t, func() bool { return len(k.shown(t)) == 1 })
	first := k.shown(t)[0]
	for _, want := range []string{"&lt;!channel&gt;", "&lt;@U99999999&gt;", "<@U012AB3CD> bob", `"https://recorder.example.org/approvals/h1/` + id(1) + `"`, `"value":"h1/` + id(1) + `"`} {
		if !strings.Contains(first, want) {
			t.Errorf("no %s in %s", want, first)
		}
	}
	if rest := strings.ReplaceAll(first, "<@U012AB3CD>", ""); strings.ContainsAny(rest, "<>") || strings.Contains(strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(rest, "&amp;", ""), "&lt;", ""), "&gt;", ""), "&") {
		t.Errorf("not escaped: %s", rest)
	}
	w.step("denied", 1)
	until(t, func() bool { return strings.Contains(k.shown(t)[0], "Waits no more (denied)") })
	last := k.shown(t)[0]
	if strings.Contains(last, `"actions"`) || strings.Contains(last, "PLANTED") || !strings.Contains(last, "dr-lee") || k.posts != 1 {
		t.Error(k.posts, last)
	}
	if rest := last; strings.ContainsAny(rest, "<>") {
		t.Errorf("not escaped: %s", rest)
	}
}

// An incoming webhook of Slack's takes the same message; it can't be changed.
func TestSlackIncomingWebhook(t *testing.T) {
	w := newWorld(t)
	p := newPeer(t, ok)
	w.write("url", p.URL+"/services/T0/B0/XX")
	w.run(w.load("channels:\n- name: leads\n  slack: {webhook_file: url}\nroutes:\n- steps:\n  - {tell: [leads]}\n"))
	w.step("requested", 1)
	p.until(t, 1)
	w.step("withdrawn", 1)
	for i, g := range p.until(t, 2) {
		var m map[string]any
		if err := json.Unmarshal([]byte(g.body), &m); err != nil || badBlocks(m) != "" || g.path != "/services/T0/B0/XX" || m["channel"] != nil || g.header.Get("Authorization") != "" {
			t.Errorf("%d: %v %s %s", i, err, badBlocks(m), g.body)
		}
	}
}

// click posts one as Slack does.
func click(t *testing.T, at, secret, value, reply string, when time.Time) int {
	t.Helper()
	payload, err := json.Marshal(map[string]any{
		"type": "block_actions", "response_url": reply, "user": map[string]any{"id": "U012AB3CD"},
		"actions": []any{map[string]any{"action_id": "open", "type": "button", "value": value}},
	})
	if err != nil {
		t.Fatal(err)
	}
	body := url.Values{"payload": {string(payload)}}.Encode()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	ts := strconv.FormatInt(when.Unix(), 10)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Slack-Request-Timestamp", ts)
	req.Header.Set("X-Slack-Signature", notify.SlackSignature(secret, ts, []byte(body)))
	return do(t, req).StatusCode
}

// do follows nothing.
func do(t *testing.T, req *http.Request) *http.Response {
	t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res
}

// The example of Slack's own documentation.
func TestSlackSignature(t *testing.T) {
	const body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
	if got := notify.SlackSignature("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", []byte(body)); got != "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503" {
		t.Error(got)
	}
}

// A click decides nothing: whoever clicked, and nobody else, is told where to log in.
// Clicks that Slack did not sign, old ones and repeated ones do nothing at all.
func TestClicks(t *testing.T) {
	w := newWorld(t)
	var k workspace
	p := newPeer(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/actions/1" {
			ok(rw, r)
			return
		}
		k.serve(rw, r)
	})
	other := newPeer(t, ok)
	w.write("oncall", "bob")
	s := w.load(fmt.Sprintf(slackConfig, p.URL+"/api") + "listen: 127.0.0.1:0\n")
	address := make(chan string, 1)
	w.run(s, listening(address))
	w.step("requested", 1)
	until(t, func() bool { return len(k.shown(t)) == 1 })
	at := "http://" + <-address + "/callbacks/leads"
	const secret = "8f742231b10e8888abcd99yyyzzz85a5"
	now := time.Now()
	reply, value := p.URL+"/actions/1", "h1/"+id(1)
	for name, c := range map[string]struct {
		secret, value, reply string
		when                 time.Time
		want                 int
	}{
		"forged":   {"another", value, reply, now, 401},
		"old":      {secret, value, reply, now.Add(-6 * time.Minute), 401},
		"future":   {secret, value, reply, now.Add(time.Hour), 401},
		"unsigned": {"", value, reply, now, 401},
		"elsewhere": { // taken, and answered nowhere
			secret, value, other.URL, now, 200,
		},
	} {
		if got := click(t, at, c.secret, c.value, c.reply, c.when); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
	if got := click(t, at, secret, value, reply, now); got != 200 {
		t.Fatal(got)
	}
	if got := click(t, at, secret, value, reply, now); got != 409 {
		t.Errorf("a click counts twice: %d", got)
	}
	answers := func() (out []string) {
		for _, g := range p.taken() {
			if g.path == "/actions/1" {
				out = append(out, g.body)
			}
		}
		return out
	}
	until(t, func() bool { return len(answers()) == 1 })
	var m map[string]any
	if err := json.Unmarshal([]byte(answers()[0]), &m); err != nil || m["response_type"] != "ephemeral" || m["replace_original"] != false ||
		!strings.Contains(m["text"].(string), "<https://recorder.example.org/approvals/h1/"+id(1)+">") {
		t.Errorf("%v %v", err, m)
	}
	if got := click(t, at, secret, "victim/"+id(1), reply, now); got != 200 {
		t.Error(got)
	}
	until(t, func() bool { return len(answers()) == 2 })
	if n := len(other.taken()); n != 0 {
		t.Errorf("an answer went where a message said, %d times", n)
	}
	if strings.Contains(answers()[1], "http") {
		t.Errorf("a request that nobody knows: %s", answers()[1])
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.record {
		if e.Approval.Step == "answered" {
			n++
		}
		if e.Kind == events.ApprovalDecision {
			t.Error("something was decided")
		}
	}
	if n != 2 {
		t.Errorf("%d answers are on the record", n)
	}
}
