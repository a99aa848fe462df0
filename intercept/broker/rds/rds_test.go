package rds_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/broker"
	"sallyport.dev/sallyport/intercept/broker/rds"
)

const keys = `
[other]
aws_access_key_id = AKIDOTHER
aws_secret_access_key = nothing

# the one
[default]
aws_access_key_id = AKIDEXAMPLE
aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY
`

func source(text string) (*rds.Source, *broker.Store) {
	store := &broker.Store{}
	store.Replace(map[string][]byte{"keys": []byte(text)})
	return &rds.Source{
		Store: store, File: "keys", Region: "us-east-1", Endpoint: "db.example.us-east-1.rds.amazonaws.com:5432",
		Now: func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) },
	}, store
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// The token is what AWS's description of Signature Version 4 makes of the same
// parts, step by step.
func TestToken(t *testing.T) {
	s, _ := source(keys)
	c, err := s.Credential(t.Context(), "billing_ro", 0)
	if err != nil {
		t.Fatal(err)
	}
	const scope = "20150830/us-east-1/rds-db/aws4_request"
	query := "Action=connect&DBUser=billing_ro&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" +
		url.QueryEscape("AKIDEXAMPLE/"+scope) + "&X-Amz-Date=20150830T123600Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host"
	nothing := sha256.Sum256(nil)
	request := "GET\n/\n" + query + "\nhost:db.example.us-east-1.rds.amazonaws.com:5432\n\nhost\n" + hex.EncodeToString(nothing[:])
	hash := sha256.Sum256([]byte(request))
	toSign := "AWS4-HMAC-SHA256\n20150830T123600Z\n" + scope + "\n" + hex.EncodeToString(hash[:])
	key := sum(sum(sum(sum([]byte("AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), "20150830"), "us-east-1"), "rds-db"), "aws4_request")
	want := "db.example.us-east-1.rds.amazonaws.com:5432/?" + query + "&X-Amz-Signature=" + hex.EncodeToString(sum(key, toSign))
	if string(c.Password) != want {
		t.Errorf("got\n%s\nwant\n%s", c.Password, want)
	}
}

func TestSessionToken(t *testing.T) {
	s, _ := source(keys + "aws_session_token = temporary/token==\n")
	c, err := s.Credential(t.Context(), "a&b=c", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(string(c.Password), "?")
	v, err := url.ParseQuery(query)
	if err != nil || v.Get("X-Amz-Security-Token") != "temporary/token==" || v.Get("DBUser") != "a&b=c" || v.Get("X-Amz-Expires") != "900" {
		t.Errorf("%v %v", v, err)
	}
}

// A token that is refused is made again only with other keys.
func TestRefused(t *testing.T) {
	s, store := source(keys)
	c, err := s.Credential(t.Context(), "u", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Credential(t.Context(), "u", c.Version); !errors.Is(err, broker.ErrUnchanged) {
		t.Errorf("with the same keys: %v", err)
	}
	store.Replace(map[string][]byte{"keys": []byte(strings.ReplaceAll(keys, "AKIDEXAMPLE", "AKIDROTATED"))})
	second, err := s.Credential(t.Context(), "u", c.Version)
	if err != nil || !strings.Contains(string(second.Password), "AKIDROTATED") {
		t.Errorf("after a rotation: %v", err)
	}
}

// Errors name what is missing, and nothing of what is there.
func TestKeysThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"": "no profile", "[default]\naws_access_key_id = AKID\n": "must be there", "[default\naws_secret_access_key = SECRETVALUE\n": "must be there",
	} {
		s, _ := source(text)
		_, err := s.Credential(t.Context(), "u", 0)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRETVALUE") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
