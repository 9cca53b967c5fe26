package simetcd_test

import (
	"bytes"
	"context"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// users lets etcd ask for a sign-in, and does what several users may and may not do.
func users(s *transcript) {
	ctx := s.Context()
	auth := pb.NewAuthClient(s.client.ActiveConnection())
	note := func(doing string, answer proto.Message, err error) { s.note(doing, answer, err) }
	signIn := func(user, password string) context.Context {
		answer, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: password})
		token := ""
		if err == nil {
			token, answer.Token = answer.Token, ""
		}
		note("sign in "+user, answer, err)
		return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
	}
	grant := func(ctx context.Context, role, key, end string, kind authpb.Permission_Type) {
		answer, err := auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{
			Name: role, Perm: &authpb.Permission{Key: []byte(key), RangeEnd: []byte(end), PermType: kind},
		})
		note("grant", answer, err)
	}
	addUser := func(ctx context.Context, name, password string) {
		answer, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: name, Password: password, Options: &authpb.UserAddOptions{}})
		note("add user", answer, err)
	}
	give := func(ctx context.Context, user, role string) {
		answer, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: role})
		note("grant role", answer, err)
	}
	enable := func(ctx context.Context) {
		answer, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
		note("enable", answer, err)
	}
	signIn("root", "secret")
	enable(ctx)
	addUser(ctx, "", "x")
	addUser(ctx, "root", "secret")
	addUser(ctx, "root", "secret")
	enable(ctx)
	give(ctx, "root", "none")
	give(ctx, "nobody", "root")
	role, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"})
	note("add role", role, err)
	give(ctx, "root", "root")
	give(ctx, "root", "root")
	for _, name := range []string{"", "part", "part"} {
		role, err := auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: name})
		note("add role", role, err)
	}
	grant(ctx, "none", "a", "", authpb.Permission_READ)
	grant(ctx, "part", "", "", authpb.Permission_READ)
	grant(ctx, "part", "b", "a", authpb.Permission_READ)
	grant(ctx, "part", "a", "c", authpb.Permission_READWRITE)
	grant(ctx, "part", "c", "e", authpb.Permission_READ)
	grant(ctx, "part", "f", "", authpb.Permission_WRITE)
	grant(ctx, "part", "g", "\x00", authpb.Permission_READ)
	addUser(ctx, "ann", "pw")
	give(ctx, "ann", "part")
	enable(ctx)
	defer func() {
		admin := signIn("root", "secret")
		_, err := auth.AuthDisable(admin, &pb.AuthDisableRequest{})
		s.say("disabled: %v", err)
		for _, name := range []string{"root", "ann"} {
			_, err := auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: name})
			s.say("deleted: %v", err)
		}
		for _, name := range []string{"root", "part"} {
			_, err := auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: name})
			s.say("deleted: %v", err)
		}
	}()
	signIn("ann", "wrong")
	signIn("nobody", "pw")
	ann, admin := signIn("ann", "pw"), signIn("root", "secret")
	nobody := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, "nonsense")
	lease, err := s.leases.LeaseGrant(admin, &pb.LeaseGrantRequest{ID: 31, TTL: 100})
	note("grant", lease, err)
	answer, err := s.kv.Put(admin, &pb.PutRequest{Key: []byte("z"), Lease: 31})
	note("put", answer, err)
	for _, who := range []context.Context{ctx, nobody, ann, admin} {
		for _, span := range [][2]string{{"a", ""}, {"a", "c"}, {"b", "d"}, {"a", "e"}, {"a", "f"}, {"f", ""}, {"g", "\x00"}, {"h", "\x00"}, {"a", "\x00"}, {"\x00", "\x00"}} {
			r, err := s.kv.Range(who, &pb.RangeRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1]), KeysOnly: true})
			note("range", r, err)
			d, err := s.kv.DeleteRange(who, &pb.DeleteRangeRequest{Key: []byte(span[0] + "x"), RangeEnd: []byte(span[1])})
			note("delete", d, err)
			t, err := s.kv.Txn(who, &pb.TxnRequest{
				Compare: []*pb.Compare{{Key: []byte(span[0]), RangeEnd: []byte(span[1]), Target: pb.Compare_VERSION, Result: pb.Compare_GREATER, TargetUnion: &pb.Compare_Version{Version: -1}}},
				Success: []*pb.RequestOp{opRange(&pb.RangeRequest{Key: []byte(span[0]), KeysOnly: true})},
			})
			note("txn", t, err)
		}
		for _, key := range []string{"a", "d", "f", "g", "z"} {
			for _, prev := range []bool{false, true} {
				p, err := s.kv.Put(who, &pb.PutRequest{Key: []byte(key), PrevKv: prev})
				note("put", p, err)
			}
			p, err := s.kv.Put(who, &pb.PutRequest{Key: []byte(key), Lease: 31})
			note("put", p, err)
			t, err := s.kv.Txn(who, &pb.TxnRequest{Failure: []*pb.RequestOp{opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut(key, "x")}})}})
			note("txn", t, err)
		}
		g, err := s.leases.LeaseGrant(who, &pb.LeaseGrantRequest{ID: 32, TTL: 100})
		note("grant", g, err)
		for _, id := range []int64{31, 32, 33} {
			l, err := s.leases.LeaseTimeToLive(who, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
			if err == nil {
				l.TTL = min(l.TTL, 1)
				slices.SortFunc(l.Keys, bytes.Compare)
			}
			note("time to live", l, err)
		}
		keep, err := s.leases.LeaseKeepAlive(who)
		if err != nil {
			s.Fatal(err)
		}
		for _, id := range []int64{33, 31} {
			if err := keep.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
				s.say("it ended before: %v", err)
				break
			}
			k, err := keep.Recv()
			note("keep alive", k, err)
			if err != nil {
				break
			}
		}
		for _, id := range []int64{32, 33} {
			v, err := s.leases.LeaseRevoke(who, &pb.LeaseRevokeRequest{ID: id})
			note("revoke", v, err)
		}
		c, err := s.kv.Compact(who, &pb.CompactionRequest{Revision: s.base - 1})
		s.say("compact: %v %v", c != nil, status.Code(err))
		u, err := auth.UserAdd(who, &pb.AuthUserAddRequest{Name: "ann", Password: "x"})
		note("add user", u, err)
		st, err := pb.NewMaintenanceClient(s.client.ActiveConnection()).Status(who, &pb.StatusRequest{})
		s.say("status: %v %v", st != nil, err)
		al, err := pb.NewMaintenanceClient(s.client.ActiveConnection()).Alarm(who, &pb.AlarmRequest{})
		note("alarm", al, err)
		w := s.watchAs(who)
		for _, span := range [][2]string{{"a", ""}, {"a", "f"}, {"a", "\x00"}, {"g", "\x00"}} {
			w.create(s, &pb.WatchCreateRequest{Key: []byte(span[0]), RangeEnd: []byte(span[1])})
			w.note(s, "create", 1)
		}
	}
	changed, err := auth.UserChangePassword(admin, &pb.AuthUserChangePasswordRequest{Name: "ann", Password: "new"})
	note("change password", changed, err)
	r, err := s.kv.Range(ann, &pb.RangeRequest{Key: []byte("a")})
	note("range", r, err)
	signIn("ann", "pw")
	ann = signIn("ann", "new")
	revoked, err := auth.RoleRevokePermission(admin, &pb.AuthRoleRevokePermissionRequest{Role: "part", Key: []byte("a"), RangeEnd: []byte("c")})
	note("revoke permission", revoked, err)
	revoked, err = auth.RoleRevokePermission(admin, &pb.AuthRoleRevokePermissionRequest{Role: "part", Key: []byte("a"), RangeEnd: []byte("c")})
	note("revoke permission", revoked, err)
	r, err = s.kv.Range(ann, &pb.RangeRequest{Key: []byte("a")})
	note("range", r, err)
	taken, err := auth.UserRevokeRole(admin, &pb.AuthUserRevokeRoleRequest{Name: "ann", Role: "part"})
	note("revoke role", taken, err)
	taken, err = auth.UserRevokeRole(admin, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"})
	note("revoke role", taken, err)
	gone, err := auth.UserDelete(admin, &pb.AuthUserDeleteRequest{Name: "root"})
	note("delete user", gone, err)
	allUsers, err := auth.UserList(admin, &pb.AuthUserListRequest{})
	note("users", allUsers, err)
	allRoles, err := auth.RoleList(ann, &pb.AuthRoleListRequest{})
	note("roles", allRoles, err)
	allRoles, err = auth.RoleList(admin, &pb.AuthRoleListRequest{})
	note("roles", allRoles, err)
	stats, err := auth.AuthStatus(admin, &pb.AuthStatusRequest{})
	if err == nil {
		stats.AuthRevision = 0
	}
	note("status", stats, err)
	back, err := s.leases.LeaseRevoke(admin, &pb.LeaseRevokeRequest{ID: 31})
	note("revoke", back, err)
}
