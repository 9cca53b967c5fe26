package cluster

import (
	"context"

	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Announce does the first step of ChangeDocuments, where the transaction leaves no room for the entry.
func (s *Store) Announce(ctx context.Context, e AuditEntry, put []definition.Document, del []Key) error {
	for _, d := range put {
		e.Documents = append(e.Documents, Key{d.Kind, d.Name}.String())
	}
	for _, key := range del {
		e.Documents = append(e.Documents, key.String())
		e.Deleted = append(e.Deleted, key.String())
	}
	name, _, err := s.encodeAudit(e)
	if err != nil {
		return err
	}
	return s.announce(ctx, name, e, put, del)
}
