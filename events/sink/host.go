package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// nobody is what ocsf writes for a host that it was not told.
const nobody = "unknown"

// heldTo refuses an event in which the host that it is of is another than the
// one that published it. It reads every spelling and repetition of the member:
// which of them counts differs between readers of JSON.
func heldTo(host string, payload []byte) error {
	told := false
	err := walk(json.NewDecoder(bytes.NewReader(payload)), "", func(path string, v json.Token) error {
		switch path {
		case ".device.hostname", ".src_endpoint.hostname", ".evidences.device.hostname", ".evidences.src_endpoint.hostname":
			if v != host && v != nobody {
				return fmt.Errorf("it says that it is of another host than %q, which published it", host)
			}
			told = told || path == ".device.hostname"
		}
		return nil
	})
	if err == nil && !told {
		return errors.New("it does not say of which host it is")
	}
	return err
}

// walk calls f for each value that is no object and no array, with the names of
// the members that lead to it, in lower case.
func walk(d *json.Decoder, path string, f func(path string, v json.Token) error) error {
	t, err := d.Token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') && t != json.Delim('[') {
		return f(path, t)
	}
	for d.More() {
		at := path
		if t == json.Delim('{') {
			name, err := d.Token()
			if err != nil {
				return err
			}
			at += "." + strings.ToLower(name.(string))
		}
		if err := walk(d, at, f); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}
