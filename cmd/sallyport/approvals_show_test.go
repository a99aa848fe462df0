package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
)

// An approver is shown all that counts, and no line of an agent's text can be taken
// for one of sallyport's.
func TestApprovalIsShownWhole(t *testing.T) {
	day := time.Date(2026, 3, 4, 12, 0, 0, 0, time.Local)
	e := &approval.Entry{Subject: approval.Subject{
		ID: "ap-1", Rule: "deletes", Count: 2, Uses: 1,
		Who: approval.Who{
			Workload: "billing", SPIFFE: "spiffe://example.org/billing", Issuer: "https://agents", Subject: "bot-7",
			Principal: "alice", PrincipalIssuer: "https://people",
			Known:  []approval.Known{{Issuer: "https://people", Claims: map[string]string{"email": "alice@example.com"}}},
			Proofs: []approval.Proved{{Name: "workload", By: "subjects", Bound: []string{"cgroup", "pidfd"}}, {Name: "principal", By: "token-bearer"}},
		},
		Where: approval.Where{Resource: "clinic", Protocol: "postgres", Database: "clinic", User: "app"},
		What: approval.What{
			Text: "DELETE FROM visits WHERE id = $1 /*\n$1 (int4, text) | 7\n*/", Names: []string{"SELECT 1\n$2 is NULL"}, Settings: []string{"datestyle=ISO, DMY"},
			Compared: []string{"clinic.patients.ssn"}, Filtered: []string{"clinic.visits"},
			Parameters: []approval.Parameter{{Type: 23, Value: []byte("8")}, {Type: 17, Binary: true, Value: []byte{0, 255}}, {Null: true}, {Type: 99999, Value: []byte("a\nb")}},
		},
		Says: approval.Says{Application: "psql", Justification: "ward 3 asked\nproof trusted", Comments: []string{"approved by dr-lee"}},
	}, Estimate: &policy.Estimate{Changed: 12}, History: &approval.History{
		Statement: approval.Tally{Asked: 3, Approved: 1, Denied: 1, Ran: 1, First: day, Last: day}, Workload: approval.Tally{Asked: 1, First: day, Last: day}, Forgotten: day,
	}}
	var b bytes.Buffer
	if err := showApproval(&b, e); err != nil {
		t.Fatal(err)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(b.String()) {
		lines[strings.Join(strings.Fields(line), " ")] = true
	}
	for _, want := range []string{
		"people 2 must approve", "SPIFFE ID spiffe://example.org/billing", "actor bot-7, of https://agents", "for alice, of https://people",
		"workload proved by subjects, bound to the connection by cgroup, pidfd", "principal proved by token-bearer",
		"compares clinic.patients.ssn", "leaves out rows of clinic.visits",
		"rows about 12 changed, 0 returned: the planner's estimate, by the server's statistics",
		"statement of this shape, by anybody: asked for 3 times since " + day.Format(time.RFC3339) + ", this one included, 1 approved, 1 denied; ran 1 time",
		"workload of any shape, by this workload: asked for 1 time since " + day.Format(time.RFC3339) + ", this one included; ran 0 times",
		"history what was last asked for before " + day.Format(time.RFC3339) + " may be missing",
		"it says application_name: psql (its own words, not proved)", `it says justification: ward 3 asked\nproof trusted (its own words, not proved)`,
		"it says comment: approved by dr-lee (its own words, not proved)",
		"known as email alice@example.com, of https://people", "setting datestyle=ISO, DMY",
		"| DELETE FROM visits WHERE id = $1 /*", "| $1 (int4, text) | 7", "| */", "| SELECT 1", "| $2 is NULL",
		"$1 (int4, text) | 8", "$2 (bytea, binary, hex) | 00ff", "$3 (type that the server finds) is NULL", `$4 (type 99999, text) | a\nb`,
	} {
		if !lines[want] {
			t.Errorf("no line %q in\n%s", want, &b)
		}
	}
	for _, not := range []string{"$1 (int4, text) | 7", "$2 is NULL"} {
		if lines[not] {
			t.Errorf("the agent writes %q", not)
		}
	}
}

// What is hostile in a statement is seen, and acts on no terminal: in text and as
// JSON, which says the same.
func TestApprovalIsShownNotObeyed(t *testing.T) {
	const hostile = "DELETE FROM visits -- \x1b]0;owned\x07\x1b[2J\x9b\u202e\u2066\u200b\ufeff\u00ad\u2028\U000e0041<script>\x00\x7f\r\nstate approved"
	e := &approval.Entry{Subject: approval.Subject{
		ID: "ap-1", Reason: hostile, What: approval.What{Text: hostile, Names: []string{hostile}, Objects: []string{hostile}, Parameters: []approval.Parameter{{Value: []byte(hostile + "\xff")}}},
		Says: approval.Says{Application: hostile, Justification: hostile, Comments: []string{hostile}},
	}}
	var text, asJSON bytes.Buffer
	if err := errors.Join(showApproval(&text, e), printJSON(&asJSON, e)); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*bytes.Buffer{&text, &asJSON} {
		for _, r := range b.String() {
			if r != '\n' && !unicode.IsPrint(r) || r == unicode.ReplacementChar {
				t.Errorf("%U goes to the terminal", r)
			}
		}
	}
	if strings.Contains("\n"+text.String(), "\nstate approved") || !strings.Contains(text.String(), `\u{202e}`) || !strings.Contains(text.String(), "<script>") {
		t.Errorf("%s", &text)
	}
	var back approval.Entry
	if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || back.What.Text != strings.ToValidUTF8(hostile, "\ufffd") || back.Says.Comments[0] != back.What.Text {
		t.Errorf("%v: %q", err, back.What.Text)
	}
}
