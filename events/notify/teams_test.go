package notify_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
)

// A card is what Teams documents, and nothing that a client chose is Markdown in it.
func TestTeams(t *testing.T) {
	w := newWorld(t)
	accepted := status(http.StatusAccepted, "")
	p := newPeer(t, accepted, later, status(200, "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x"), status(502, ""))
	w.write("url", p.URL+"/workflows/1?sig=SECRET")
	w.write("oncall", "carol")
	w.run(w.load(`channels:
- name: teams
  teams: {webhook_file: url}
people:
  alice: {teams: alice@example.org}
on_call:
  night: {file: oncall}
routes:
- steps:
  - {tell: [teams], people: [alice], on_call: [night]}
`))
	const hostile = "[click](https://evil.example) <at>everyone</at> **b** ![i](https://evil.example/i.png)"
	w.step("requested", 1, func(e *events.Event) { e.Approval.Database, e.Approval.Rule = hostile, hostile })
	p.until(t, 1)
	w.step("expired", 1)
	for i, g := range p.until(t, 2) {
		var m struct {
			Type        string
			Attachments []struct {
				ContentType string
				Content     struct {
					Type, Version string
					Body          []struct {
						Type, Text string
						Inlines    []struct{ Type, Text string }
					}
					Actions []struct{ Type, Title, URL string }
					MSTeams struct {
						Entities []struct {
							Type, Text string
							Mentioned  struct{ ID, Name string }
						}
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(g.body), &m); err != nil || m.Type != "message" || len(m.Attachments) != 1 || len(g.body) > 28<<10 {
			t.Fatal(err, g.body)
		}
		a := m.Attachments[0]
		if a.ContentType != "application/vnd.microsoft.card.adaptive" || a.Content.Type != "AdaptiveCard" || a.Content.Version == "" {
			t.Error(g.body)
		}
		found := false
		for _, b := range a.Content.Body {
			switch b.Type {
			case "RichTextBlock":
				for _, r := range b.Inlines {
					found = found || strings.Contains(r.Text, hostile)
					if r.Type != "TextRun" {
						t.Error(r)
					}
				}
			case "TextBlock": // of the configuration alone
				if b.Text != "First to look: <at>alice</at>, carol" {
					t.Error(b.Text)
				}
			default:
				t.Error(b)
			}
		}
		if !found {
			t.Errorf("the rule is not told: %s", g.body)
		}
		asked := i == 0
		if n := len(a.Content.Actions); asked != (n == 1) || asked && (a.Content.Actions[0].Type != "Action.OpenUrl" || a.Content.Actions[0].URL != "https://recorder.example.org/approvals/h1/"+id(1)) {
			t.Errorf("%+v", a.Content.Actions)
		}
		if n := len(a.Content.MSTeams.Entities); asked != (n == 1) || asked && a.Content.MSTeams.Entities[0].Mentioned.ID != "alice@example.org" {
			t.Errorf("%+v", a.Content.MSTeams)
		}
	}
}
