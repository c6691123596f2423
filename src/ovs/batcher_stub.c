#include "ovs/ovs.h"
#include <stdlib.h>
struct ovs_batcher { char *p; };
int ovs_batcher_start(const char *socket_path, struct ovs_batcher **ret, struct error *err){(void)err;*ret=calloc(1,sizeof(**ret));(*ret)->p=str_printf("%s",socket_path);return 0;}
void ovs_batcher_stop(struct ovs_batcher *b){free(b->p);free(b);}
int ovs_batcher_add(struct ovs_batcher *b, const struct ovs_port_spec *specs, size_t n,int64_t d, int *r, struct error *err){autoovsdb struct ovsdb*db=NULL;int rc=ovsdb_connect(b->p,d,&db,err);return rc<0?rc:ovs_ports_add(db,specs,n,d,r,err);}
int ovs_batcher_del(struct ovs_batcher *b, const char *const *names, size_t n,int64_t d, struct error *err){autoovsdb struct ovsdb*db=NULL;int rc=ovsdb_connect(b->p,d,&db,err);return rc<0?rc:ovs_ports_del(db,names,n,false,d,err);}
void ovs_batcher_counts(struct ovs_batcher *b, struct ovs_batcher_counts *r){(void)b;*r=(struct ovs_batcher_counts){0};}
