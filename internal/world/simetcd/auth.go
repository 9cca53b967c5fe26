package simetcd

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
)

// root is the user, and the role, that may do everything.
const root = "root"

// auth are users and roles. The state that it belongs to is guarded, and so is this.
type auth struct {
	enabled  bool
	revision uint64 // counts changes of users and roles
	users    map[string]*user
	roles    map[string][]*authpb.Permission
}

// user is someone who may sign in. It is replaced when it changes.
type user struct {
	password   string
	noPassword bool
	roles      []string // sorted
}

// token is a sign-in.
type token struct {
	user    string
	expires time.Time
}

// identity is the user that makes a call.
type identity struct {
	user     string
	revision uint64 // of auth, when the call came
}

// newAuth makes auth without users, which is not enabled.
func newAuth() *auth {
	return &auth{revision: 1, users: map[string]*user{}, roles: map[string][]*authpb.Permission{}}
}

// clone copies auth.
func (a *auth) clone() *auth {
	return &auth{enabled: a.enabled, revision: a.revision, users: maps.Clone(a.users), roles: maps.Clone(a.roles)}
}

// identify returns the user that makes a call, and nil if none is given or users are not enabled. Etcd.mu is held.
func (m *member) identify(ctx context.Context) (*identity, error) {
	e := m.etcd
	if !e.state.auth.enabled {
		return nil, nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	given := append(md.Get(rpctypes.TokenFieldNameGRPC), md.Get(rpctypes.TokenFieldNameSwagger)...)
	if len(given) == 0 {
		return nil, nil
	}
	name := strings.TrimPrefix(given[0], "Bearer ")
	t := e.tokens[name]
	if t == nil || time.Now().After(t.expires) {
		delete(e.tokens, name)
		return nil, rpctypes.ErrGRPCInvalidAuthToken
	}
	t.expires = time.Now().Add(e.config.TokenLasts)
	return &identity{t.user, e.state.auth.revision}, nil
}

// signedIn returns an error unless a user makes the call, or users are not enabled.
func (m *member) signedIn(ctx context.Context) error {
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	who, err := m.identify(ctx)
	if err == nil && who == nil && m.etcd.state.auth.enabled {
		err = rpctypes.ErrGRPCUserEmpty
	}
	return err
}

// adminOnly returns an error unless a user with the role root makes the call, or users are not enabled.
func (m *member) adminOnly(ctx context.Context) error {
	m.etcd.mu.Lock()
	defer m.etcd.mu.Unlock()
	who, err := m.identify(ctx)
	if err != nil {
		return err
	}
	return m.etcd.state.admin(who)
}

// admin returns an error unless a user has the role root, or users are not enabled.
func (s *state) admin(who *identity) error {
	switch {
	case !s.auth.enabled:
		return nil
	case who == nil || who.user == "":
		return rpctypes.ErrGRPCUserEmpty
	}
	u := s.auth.users[who.user]
	switch {
	case u == nil:
		return rpctypes.ErrGRPCUserNotFound
	case !slices.Contains(u.roles, root):
		return rpctypes.ErrGRPCPermissionDenied
	}
	return nil
}

// permitted returns an error unless a user may read, or write, all keys of a range.
func (s *state) permitted(who *identity, over span, write bool) error {
	switch {
	case !s.auth.enabled:
		return nil
	case who == nil:
		return rpctypes.ErrGRPCUserEmpty
	case who.revision < s.auth.revision:
		return rpctypes.ErrGRPCAuthOldRevision
	}
	u := s.auth.users[who.user]
	if u == nil {
		return rpctypes.ErrGRPCPermissionDenied
	}
	if slices.Contains(u.roles, root) {
		return nil
	}
	var granted []span
	for _, role := range u.roles {
		for _, p := range s.auth.roles[role] {
			if p.GetPermType() == authpb.Permission_READWRITE || (p.GetPermType() == authpb.Permission_WRITE) == write {
				granted = append(granted, newSpan(p.GetKey(), p.GetRangeEnd()))
			}
		}
	}
	if !coveredBy(granted, over) {
		return rpctypes.ErrGRPCPermissionDenied
	}
	return nil
}

// coveredBy reports whether ranges together cover another one.
func coveredBy(granted []span, over span) bool {
	slices.SortFunc(granted, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	at := over.from
	for _, g := range granted {
		if g.covers(span{from: at, to: over.to, one: over.one}) {
			return true
		}
		if !over.one && g.contains(at) {
			if g.one {
				g.to = g.from + "\x00"
			}
			if at = g.to; over.to != "" && at >= over.to {
				return true
			}
		}
	}
	return false
}

// mayPut returns an error unless a user may make a put.
func (s *state) mayPut(who *identity, r *pb.PutRequest) error {
	at := newSpan(r.GetKey(), nil)
	if err := s.permitted(who, at, true); err != nil {
		return err
	}
	if l := s.leases[r.GetLease()]; l != nil {
		if err := s.mayRenew(who, l); err != nil {
			return err
		}
	}
	if r.GetPrevKv() {
		return s.permitted(who, at, false)
	}
	return nil
}

// mayDelete returns an error unless a user may make a deletion.
func (s *state) mayDelete(who *identity, r *pb.DeleteRangeRequest) error {
	over := newSpan(r.GetKey(), r.GetRangeEnd())
	if err := s.permitted(who, over, true); err != nil {
		return err
	}
	if r.GetPrevKv() {
		return s.permitted(who, over, false)
	}
	return nil
}

// mayTransact returns an error unless a user may do all that a transaction does in any of its branches.
func (s *state) mayTransact(who *identity, r *pb.TxnRequest) error {
	for _, c := range r.GetCompare() {
		if err := s.permitted(who, newSpan(c.GetKey(), c.GetRangeEnd()), false); err != nil {
			return err
		}
	}
	for _, ops := range [][]*pb.RequestOp{r.GetSuccess(), r.GetFailure()} {
		for _, op := range ops {
			var err error
			switch op := op.GetRequest().(type) {
			case *pb.RequestOp_RequestRange:
				err = s.permitted(who, newSpan(op.RequestRange.GetKey(), op.RequestRange.GetRangeEnd()), false)
			case *pb.RequestOp_RequestPut:
				err = s.mayPut(who, op.RequestPut)
			case *pb.RequestOp_RequestDeleteRange:
				err = s.mayDelete(who, op.RequestDeleteRange)
			case *pb.RequestOp_RequestTxn:
				err = s.mayTransact(who, op.RequestTxn)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// mayRenew returns an error unless a user may write all keys under a lease.
func (s *state) mayRenew(who *identity, l *lease) error {
	if s.admin(who) == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		if err := s.permitted(who, span{from: key, one: true}, true); err != nil {
			return err
		}
	}
	return nil
}

// invalidate ends all sign-ins of a user. e.mu is held.
func (e *Etcd) invalidate(user string) {
	maps.DeleteFunc(e.tokens, func(_ string, t *token) bool { return t.user == user })
}
