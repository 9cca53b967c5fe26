package simetcd

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Authenticate implements etcdserverpb.AuthServer.
func (s service) Authenticate(ctx context.Context, r *pb.AuthenticateRequest) (answer *pb.AuthenticateResponse, err error) {
	err = s.agree(ctx, true, func() error {
		e := s.etcd
		if !e.state.auth.enabled {
			return rpctypes.ErrGRPCAuthNotEnabled
		}
		u := e.state.auth.users[r.GetName()]
		if u == nil || u.noPassword || u.password != r.GetPassword() {
			return rpctypes.ErrGRPCAuthFailed
		}
		e.signed++
		name := fmt.Sprintf("%016x.%d", e.rand.Uint64(), e.signed)
		e.tokens[name] = &token{r.GetName(), time.Now().Add(e.config.TokenLasts)}
		answer = &pb.AuthenticateResponse{Header: s.header(0), Token: name}
		return nil
	})
	return answer, err
}

// manage makes a change of users and roles, which only root may make if users are enabled. f runs under Etcd.mu; changed says that it has
// changed something.
func (m *member) manage(ctx context.Context, f func(a *auth) (changed bool, err error)) (header *pb.ResponseHeader, err error) {
	m.etcd.mu.Lock()
	who, err := m.identify(ctx)
	m.etcd.mu.Unlock()
	if err != nil {
		return nil, err
	}
	err = m.write(ctx, func() (*writer, error) {
		if err := m.etcd.state.admin(who); err != nil {
			return nil, err
		}
		a := m.etcd.state.auth
		changed, err := f(a)
		if changed {
			a.revision++
		}
		header = m.header(0)
		return nil, err
	})
	return header, err
}

// AuthEnable implements etcdserverpb.AuthServer.
func (s service) AuthEnable(ctx context.Context, _ *pb.AuthEnableRequest) (*pb.AuthEnableResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) { return false, a.enable() })
	return &pb.AuthEnableResponse{Header: h}, err
}

// enable lets etcd ask for a sign-in.
func (a *auth) enable() error {
	switch u := a.users[root]; {
	case a.enabled:
	case u == nil:
		return rpctypes.ErrGRPCRootUserNotExist
	case !slices.Contains(u.roles, root):
		return rpctypes.ErrGRPCRootRoleNotExist
	}
	a.enabled = true
	return nil
}

// AuthDisable implements etcdserverpb.AuthServer.
func (s service) AuthDisable(ctx context.Context, _ *pb.AuthDisableRequest) (*pb.AuthDisableResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		was := a.enabled
		a.enabled = false
		clear(s.etcd.tokens)
		return was, nil
	})
	return &pb.AuthDisableResponse{Header: h}, err
}

// AuthStatus implements etcdserverpb.AuthServer.
func (s service) AuthStatus(ctx context.Context, _ *pb.AuthStatusRequest) (answer *pb.AuthStatusResponse, err error) {
	err = s.read(ctx, false, func(*identity) error {
		a := s.etcd.state.auth
		answer = &pb.AuthStatusResponse{Header: s.header(0), Enabled: a.enabled, AuthRevision: a.revision}
		return nil
	})
	return answer, err
}

// UserAdd implements etcdserverpb.AuthServer.
func (s service) UserAdd(ctx context.Context, r *pb.AuthUserAddRequest) (*pb.AuthUserAddResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		switch {
		case r.GetName() == "":
			return false, rpctypes.ErrGRPCUserEmpty
		case a.users[r.GetName()] != nil:
			return false, rpctypes.ErrGRPCUserAlreadyExist
		}
		a.users[r.GetName()] = &user{password: r.GetPassword(), noPassword: r.GetOptions().GetNoPassword()}
		return true, nil
	})
	return &pb.AuthUserAddResponse{Header: h}, err
}

// UserDelete implements etcdserverpb.AuthServer.
func (s service) UserDelete(ctx context.Context, r *pb.AuthUserDeleteRequest) (*pb.AuthUserDeleteResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		switch {
		case a.enabled && r.GetName() == root:
			return false, rpctypes.ErrGRPCInvalidAuthMgmt
		case a.users[r.GetName()] == nil:
			return false, rpctypes.ErrGRPCUserNotFound
		}
		delete(a.users, r.GetName())
		s.etcd.invalidate(r.GetName())
		return true, nil
	})
	return &pb.AuthUserDeleteResponse{Header: h}, err
}

// UserChangePassword implements etcdserverpb.AuthServer.
func (s service) UserChangePassword(ctx context.Context, r *pb.AuthUserChangePasswordRequest) (*pb.AuthUserChangePasswordResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		u := a.users[r.GetName()]
		if u == nil {
			return false, rpctypes.ErrGRPCUserNotFound
		}
		a.users[r.GetName()] = &user{password: r.GetPassword(), noPassword: u.noPassword, roles: u.roles}
		s.etcd.invalidate(r.GetName())
		return true, nil
	})
	return &pb.AuthUserChangePasswordResponse{Header: h}, err
}

// UserGrantRole implements etcdserverpb.AuthServer.
func (s service) UserGrantRole(ctx context.Context, r *pb.AuthUserGrantRoleRequest) (*pb.AuthUserGrantRoleResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		u, known := a.users[r.GetUser()], true
		if r.GetRole() != root {
			_, known = a.roles[r.GetRole()]
		}
		switch {
		case u == nil:
			return false, rpctypes.ErrGRPCUserNotFound
		case !known:
			return false, rpctypes.ErrGRPCRoleNotFound
		case slices.Contains(u.roles, r.GetRole()):
			return false, nil
		}
		roles := append(slices.Clone(u.roles), r.GetRole())
		slices.Sort(roles)
		a.users[r.GetUser()] = &user{u.password, u.noPassword, roles}
		return true, nil
	})
	return &pb.AuthUserGrantRoleResponse{Header: h}, err
}

// UserRevokeRole implements etcdserverpb.AuthServer.
func (s service) UserRevokeRole(ctx context.Context, r *pb.AuthUserRevokeRoleRequest) (*pb.AuthUserRevokeRoleResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		u := a.users[r.GetName()]
		switch {
		case a.enabled && r.GetName() == root && r.GetRole() == root:
			return false, rpctypes.ErrGRPCInvalidAuthMgmt
		case u == nil:
			return false, rpctypes.ErrGRPCUserNotFound
		case !slices.Contains(u.roles, r.GetRole()):
			return false, rpctypes.ErrGRPCRoleNotGranted
		}
		a.users[r.GetName()] = &user{u.password, u.noPassword, slices.DeleteFunc(slices.Clone(u.roles), func(role string) bool { return role == r.GetRole() })}
		return true, nil
	})
	return &pb.AuthUserRevokeRoleResponse{Header: h}, err
}

// RoleAdd implements etcdserverpb.AuthServer.
func (s service) RoleAdd(ctx context.Context, r *pb.AuthRoleAddRequest) (*pb.AuthRoleAddResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		if r.GetName() == "" {
			return false, rpctypes.ErrGRPCRoleEmpty
		}
		if _, known := a.roles[r.GetName()]; known {
			return false, rpctypes.ErrGRPCRoleAlreadyExist
		}
		a.roles[r.GetName()] = nil
		return true, nil
	})
	return &pb.AuthRoleAddResponse{Header: h}, err
}

// RoleGrantPermission implements etcdserverpb.AuthServer.
func (s service) RoleGrantPermission(ctx context.Context, r *pb.AuthRoleGrantPermissionRequest) (*pb.AuthRoleGrantPermissionResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		switch {
		case r.GetPerm() == nil:
			return false, rpctypes.ErrGRPCPermissionNotGiven
		case len(r.GetPerm().GetKey()) == 0, newSpan(r.GetPerm().GetKey(), r.GetPerm().GetRangeEnd()).to != "" && bytes.Compare(r.GetPerm().GetKey(), r.GetPerm().GetRangeEnd()) >= 0:
			return false, rpctypes.ErrGRPCInvalidAuthMgmt
		}
		perms, known := a.roles[r.GetName()]
		if !known {
			return false, rpctypes.ErrGRPCRoleNotFound
		}
		perms = slices.DeleteFunc(slices.Clone(perms), func(p *authpb.Permission) bool { return sameRange(p, r.GetPerm().GetKey(), r.GetPerm().GetRangeEnd()) })
		perms = append(perms, r.GetPerm())
		slices.SortStableFunc(perms, func(x, y *authpb.Permission) int { return bytes.Compare(x.GetKey(), y.GetKey()) })
		a.roles[r.GetName()] = perms
		return true, nil
	})
	return &pb.AuthRoleGrantPermissionResponse{Header: h}, err
}

// RoleRevokePermission implements etcdserverpb.AuthServer.
func (s service) RoleRevokePermission(ctx context.Context, r *pb.AuthRoleRevokePermissionRequest) (*pb.AuthRoleRevokePermissionResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		perms, known := a.roles[r.GetRole()]
		if !known {
			return false, rpctypes.ErrGRPCRoleNotFound
		}
		rest := slices.DeleteFunc(slices.Clone(perms), func(p *authpb.Permission) bool { return sameRange(p, r.GetKey(), r.GetRangeEnd()) })
		if len(rest) == len(perms) {
			return false, rpctypes.ErrGRPCPermissionNotGranted
		}
		a.roles[r.GetRole()] = rest
		return true, nil
	})
	return &pb.AuthRoleRevokePermissionResponse{Header: h}, err
}

// sameRange reports whether a permission is for exactly this range.
func sameRange(p *authpb.Permission, key, end []byte) bool {
	return bytes.Equal(p.GetKey(), key) && bytes.Equal(p.GetRangeEnd(), end)
}

// RoleDelete implements etcdserverpb.AuthServer.
func (s service) RoleDelete(ctx context.Context, r *pb.AuthRoleDeleteRequest) (*pb.AuthRoleDeleteResponse, error) {
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		if a.enabled && r.GetRole() == root {
			return false, rpctypes.ErrGRPCInvalidAuthMgmt
		}
		if _, known := a.roles[r.GetRole()]; !known {
			return false, rpctypes.ErrGRPCRoleNotFound
		}
		delete(a.roles, r.GetRole())
		for name, u := range a.users {
			roles := slices.DeleteFunc(slices.Clone(u.roles), func(role string) bool { return role == r.GetRole() })
			a.users[name] = &user{u.password, u.noPassword, roles}
		}
		return true, nil
	})
	return &pb.AuthRoleDeleteResponse{Header: h}, err
}

// UserList implements etcdserverpb.AuthServer.
func (s service) UserList(ctx context.Context, _ *pb.AuthUserListRequest) (*pb.AuthUserListResponse, error) {
	answer := &pb.AuthUserListResponse{}
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		answer.Users = slices.Sorted(maps.Keys(a.users))
		return false, nil
	})
	answer.Header = h
	return answer, err
}

// RoleList implements etcdserverpb.AuthServer.
func (s service) RoleList(ctx context.Context, _ *pb.AuthRoleListRequest) (*pb.AuthRoleListResponse, error) {
	answer := &pb.AuthRoleListResponse{}
	h, err := s.manage(ctx, func(a *auth) (bool, error) {
		answer.Roles = slices.Sorted(maps.Keys(a.roles))
		return false, nil
	})
	answer.Header = h
	return answer, err
}
