package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"sallyport.dev/sallyport/events/internal/outbound"
)

// Elastic of a sink for Elasticsearch's and OpenSearch's bulk API, with events
// in the Elastic Common Schema. URL is required.
// https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk
type Elastic struct {
	URL          string `yaml:"url"`
	Index        string `yaml:"index"`        // data stream or index; default logs-sallyport.audit-default
	APIKeyFile   string `yaml:"api_key_file"` // holds the encoded key; or
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	CA           string `yaml:"ca"`
}

type elastic struct {
	Elastic
	p    *outbound.Poster
	auth string
}

func newElastic(o Elastic) (*elastic, error) {
	if o.Index == "" {
		o.Index = "logs-sallyport.audit-default"
	}
	e := &elastic{Elastic: o}
	switch {
	case o.APIKeyFile != "":
		key, err := outbound.Secret(o.APIKeyFile)
		if err != nil {
			return nil, err
		}
		e.auth = "ApiKey " + key
	case o.User != "":
		password, err := outbound.Secret(o.PasswordFile)
		if err != nil {
			return nil, err
		}
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(o.User, password)
		e.auth = r.Header.Get("Authorization")
	}
	var err error
	e.p, err = outbound.New(o.URL, o.CA)
	return e, err
}

type bulkItem struct {
	ID     string `json:"_id"`
	Status int    `json:"status"`
	Error  *struct {
		Type string `json:"type"` // its reason repeats what was sent
	} `json:"error"`
}

// Send implements Target.
func (e *elastic) Send(ctx context.Context, batch []Event) Answer {
	var body []byte
	for i := range batch {
		// create, not index: what is there stays as it is, and data streams take
		// nothing else.
		action, err := json.Marshal(map[string]any{"create": map[string]string{"_index": e.Index, "_id": batch[i].UID}})
		if err != nil {
			return failed(batch, 0, err)
		}
		doc, err := ECS(&batch[i])
		if err != nil {
			return failed(batch, 0, err)
		}
		body = append(append(append(append(body, action...), '\n'), doc...), '\n')
	}
	h := http.Header{}
	h.Set("Content-Type", "application/x-ndjson")
	if e.auth != "" {
		h.Set("Authorization", e.auth)
	}
	r, err := e.p.Post(ctx, http.MethodPost, "/_bulk", h, body)
	if err != nil {
		return failed(batch, 0, err)
	}
	switch {
	case r.Status == http.StatusRequestEntityTooLarge, r.Status == http.StatusBadRequest:
		return Answer{TooMuch: true, Err: r.Err()}
	case !r.OK():
		return failed(batch, r.After, r.Err())
	}
	return e.judge(batch, &r)
}

// judge reads what became of each event.
func (e *elastic) judge(batch []Event, r *outbound.Reply) (a Answer) {
	var said struct {
		Items []map[string]bulkItem `json:"items"`
	}
	if err := json.Unmarshal(r.Body, &said); err != nil || len(said.Items) != len(batch) {
		return failed(batch, 0, errors.New("its answer is not that of a bulk request of this size"))
	}
	took := 0
	for i := range batch {
		item, ok := said.Items[i]["create"]
		if !ok || item.ID != "" && item.ID != batch[i].UID {
			return failed(batch, 0, errors.New("its answer is not of the events that it was sent"))
		}
		switch {
		case item.Status == http.StatusOK, item.Status == http.StatusCreated, item.Status == http.StatusConflict: // it is there
			took++
		case item.Status == http.StatusBadRequest && !item.ofIndex():
			a.Refused = append(a.Refused, Refusal{batch[i], item.err()})
		default:
			a.Again, a.Err = append(a.Again, batch[i]), item.err()
		}
	}
	switch { // one event is at fault only where others are taken
	case took > 0 || len(a.Refused) == 0:
	case len(a.Again) == 0:
		return Answer{TooMuch: true, Err: a.Refused[0].Why}
	default:
		return failed(batch, 0, a.Err)
	}
	return a
}

// ofIndex reports whether the error is of the index: of every event, and for an
// operator to end.
func (i *bulkItem) ofIndex() bool {
	return i.Error != nil && (strings.HasPrefix(i.Error.Type, "index_") || strings.HasPrefix(i.Error.Type, "invalid_index_"))
}

func (i *bulkItem) err() error {
	if i.Error == nil {
		return fmt.Errorf("it answered %d for an event", i.Status)
	}
	return fmt.Errorf("it answered %d for an event: %s", i.Status, outbound.Clean(i.Error.Type, 200))
}

// Close implements Target.
func (e *elastic) Close() error { e.p.Close(); return nil }
