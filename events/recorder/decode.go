package recorder

import (
	"encoding/json"

	"sallyport.dev/sallyport/events"
)

func decode(r *events.Record) (Facts, error) {
	return Decode(r.Kind, r.Payload)
}

// Decode reads an event's payload.
func Decode(kind events.Kind, payload []byte) (Facts, error) {
	var x struct {
		Facts
		W Identity `json:"who"`
	}
	err := json.Unmarshal(payload, &x)
	x.Facts.Who = x.W
	return x.Facts, err
}
