package ocsf_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile("testdata/ocsf-1.7.0.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func instance(t *testing.T, b []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return v
}

func TestEventsFollowOCSF(t *testing.T) {
	s := schema(t)
	for _, e := range slices.Concat(examples(), more()) {
		b := ocsf.Append(nil, uid, e)
		if err := s.Validate(instance(t, b)); err != nil {
			t.Errorf("%s: %v\n%s", e.Kind, err, b)
		}
		var x struct {
			Class    int `json:"class_uid"`
			Activity int `json:"activity_id"`
			Type     int `json:"type_uid"`
			Category int `json:"category_uid"`
		}
		if err := json.Unmarshal(b, &x); err != nil || x.Type != x.Class*100+x.Activity || x.Category != x.Class/1000 {
			t.Errorf("%s: %+v %v", e.Kind, x, err)
		}
		twice(t, e.Kind, b)
	}
}

// twice fails if an object has a member twice, which JSON readers resolve
// each in their own way.
func twice(t *testing.T, k events.Kind, b []byte) {
	dec := json.NewDecoder(bytes.NewReader(b))
	var stack []map[string]bool
	key := false
	for {
		tok, err := dec.Token()
		if err != nil {
			return
		}
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '{':
				stack, key = append(stack, map[string]bool{}), true
				continue
			case '[':
				stack = append(stack, nil)
			default:
				stack = stack[:len(stack)-1]
			}
		case string:
			if key {
				if top := stack[len(stack)-1]; top[tok] {
					t.Errorf("%s: member %q twice\n%s", k, tok, b)
				} else {
					top[tok] = true
				}
				key = false
				continue
			}
		}
		key = len(stack) > 0 && stack[len(stack)-1] != nil
	}
}

func TestTheSchemaCanRefuse(t *testing.T) {
	s := schema(t)
	good := string(ocsf.Append(nil, uid, examples()[2]))
	for from, to := range map[string]string{
		`"severity_id":1`:       `"severity_id":7`,
		`"class_uid":6005`:      `"class_uid":6006`,
		`"actor":{`:             `"actr":{`,
		`"query_string"`:        `"query"`,
		`"action":"Modified"`:   `"action":"Allowed"`,
		`"version":"1.7.0"`:     `"version":"1.6.0"`,
		`"activity_id":4`:       `"activity_id":5`,
		`"ip":"10.0.0.5"`:       `"ip":"10.0.0.256"`,
		`"port":5432`:           `"port":70000`,
		`"type":"Relational"`:   `"type":"NoSQL"`,
		`"disposition":"Masked`: `"disposition_name":"Masked`,
	} {
		bad := strings.Replace(good, from, to, 1)
		if bad == good {
			t.Errorf("%s does not stand in the event", from)
			continue
		}
		if err := s.Validate(instance(t, []byte(bad))); err == nil {
			t.Errorf("%s was taken for %s", to, from)
		}
	}
}

// No literal, bind or exact text has a way into an event: the encoder is given
// none. What it is given must not bring them either: the digest of a literal
// is not the literal.
func TestLiteralsStandAsDigests(t *testing.T) {
	e := examples()[2]
	v, err := ocsf.Decode(ocsf.Append(nil, uid, e))
	if err != nil || len(v.Literals) != 1 || v.Literals[0] != "0102030405060708" {
		t.Fatalf("%v %v", v.Literals, err)
	}
}
