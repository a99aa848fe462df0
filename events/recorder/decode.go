package recorder

import (
	"fmt"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

func decode(r *events.Record) (Facts, error) {
	return Decode(r.Kind, r.Payload)
}

// Decode reads a published event, which must be of the kind that its record
// says.
func Decode(kind events.Kind, payload []byte) (Facts, error) {
	v, err := ocsf.Decode(payload)
	if err != nil {
		return Facts{}, err
	}
	if v.Kind != kind.String() {
		return Facts{}, fmt.Errorf("recorder: a record of kind %q holds an event of kind %q", kind, v.Kind)
	}
	f := Facts{
		Time: v.Time, Kind: v.Kind, Number: v.Number, Command: v.Command, Text: v.Normalized,
		Verdict: v.Verdict, Rules: v.Rules, Reason: v.Reason, Remedy: v.Remedy, Code: v.Code, Objects: v.Objects, Masked: v.Masked,
		Masks: v.Masks, Revealed: v.Revealed, Why: v.Justification, Subjects: v.Subjects, Named: v.Named, Untold: v.Untold,
		Would: v.Would, WouldRules: v.WouldRules, WouldReason: v.WouldReason, WouldMasked: v.WouldMasked, WouldFiltered: v.WouldFiltered,
		Status: v.Status, Rows: v.Rows, Bytes: v.Bytes, Recorded: v.Recorded, Duration: v.Duration, Message: v.Message,
		Who: Identity{
			Protocol: v.Protocol, Resource: v.Resource, Workload: v.Workload, Actor: v.Actor, Principal: v.Principal,
			Actors: v.Actors, Issuer: v.Issuer, Proof: v.Proof, SPIFFE: v.SPIFFE,
			WorkloadProof: v.OfWorkload, ActorProof: v.OfActor, PrincipalProof: v.OfPrincipal, Process: v.Process.Exe, PID: v.Process.PID,
			Account: v.Account, Role: v.Role, User: v.User, Database: v.Database, Application: v.Application,
			ClientTLS: v.ClientTLS, ClientClear: v.ClientClear, ServerTLS: v.ServerTLS, ServerFrom: v.ServerFrom,
			ClientCertificate: v.ClientCertificate, Undecoded: v.Undecoded,
		},
	}
	for _, d := range v.Detected {
		f.Detected = append(f.Detected, d.String())
	}
	if f.Who.Destination = v.Path; v.Destination.IsValid() {
		f.Who.Destination = v.Destination.String()
	}
	return f, nil
}
