package main

import (
	"bytes"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/approval"
)

// An approver is shown all that counts, and no line of an agent's text can be taken
// for one of sallyport's.
func TestApprovalIsShownWhole(t *testing.T) {
	e := &approval.Entry{Subject: approval.Subject{
		ID: "ap-1", Rule: "deletes", Count: 2, Uses: 1,
		Who: approval.Who{
			Workload: "billing", SPIFFE: "spiffe://example.org/billing", Issuer: "https://agents", Subject: "bot-7",
			Principal: "alice", PrincipalIssuer: "https://people",
			Known: []approval.Known{{Issuer: "https://people", Claims: map[string]string{"email": "alice@example.com"}}},
		},
		Where: approval.Where{Resource: "clinic", Protocol: "postgres", Database: "clinic", User: "app"},
		What: approval.What{
			Text: "DELETE FROM visits WHERE id = $1 /*\n$1 (int4, text) | 7\n*/", Names: []string{"SELECT 1\n$2 is NULL"}, Settings: []string{"datestyle=ISO, DMY"},
			Parameters: []approval.Parameter{{Type: 23, Value: []byte("8")}, {Type: 17, Binary: true, Value: []byte{0, 255}}, {Null: true}, {Type: 99999, Value: []byte("a\nb")}},
		},
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
