//! Flags of whole statements, and the relations that only a list of names gives.

use super::Facts;
use crate::protocol::postgres::sql::flags;
use crate::protocol::postgres::sql::names;
use pg_query::protobuf::{GrantTargetType, ObjectType};
use pg_query::{Node, NodeEnum};

impl Facts {
    /// The flags that a statement has by what it is, and the relations it names as texts.
    pub(super) fn statement_flags(&mut self, tree: &NodeEnum) {
        match tree {
            NodeEnum::CopyStmt(copy) => {
                if copy.is_program {
                    self.flag(flags::COPY_PROGRAM);
                } else if !copy.filename.is_empty() {
                    self.flag(flags::COPY_FILE);
                }
            }
            NodeEnum::DoStmt(_) => self.flags.extend([flags::DO, flags::STATE_UNKNOWN]),
            NodeEnum::CallStmt(_) => self.flags.extend([flags::CALL, flags::STATE_UNKNOWN]),
            NodeEnum::VariableSetStmt(set) => {
                let name = set.name.to_ascii_lowercase();
                self.flags.extend(flags::of_setting(&name));
            }
            NodeEnum::CreateTableAsStmt(_) => {
                self.flag(flags::SELECT_INTO);
            }
            NodeEnum::ViewStmt(view) => {
                if let Some(range) = &view.view {
                    self.created(range);
                }
            }
            NodeEnum::CreateSeqStmt(create) => {
                if let Some(range) = &create.sequence {
                    self.created(range);
                }
            }
            NodeEnum::CreateFunctionStmt(create) => self.create_function(create),
            NodeEnum::DefineStmt(_) | NodeEnum::AlterFunctionStmt(_) => {
                self.flag(flags::DEFINES_CODE)
            }
            NodeEnum::LoadStmt(_)
            | NodeEnum::CreateExtensionStmt(_)
            | NodeEnum::AlterExtensionStmt(_)
            | NodeEnum::AlterExtensionContentsStmt(_) => self.flag(flags::LOADS_LIBRARY),
            _ if runs_unseen(tree) => self.flag(flags::DEFINES_CODE),
            _ if is_remote(tree) => self.flag(flags::REMOTE),
            NodeEnum::AlterSystemStmt(_)
            | NodeEnum::AlterRoleSetStmt(_)
            | NodeEnum::AlterDatabaseSetStmt(_) => self.flag(flags::PERSISTENT_SETTING),
            NodeEnum::AlterDefaultPrivilegesStmt(_) => self.flag(flags::ALL_IN_SCHEMA),
            NodeEnum::GrantStmt(grant)
                if grant.targtype != GrantTargetType::AclTargetObject as i32 =>
            {
                self.flag(flags::ALL_IN_SCHEMA);
            }
            NodeEnum::DropStmt(drop) => {
                for object in &drop.objects {
                    self.object(drop.remove_type, Some(object));
                }
            }
            NodeEnum::CommentStmt(comment) => {
                self.object(comment.objtype, comment.object.as_deref());
            }
            NodeEnum::SecLabelStmt(label) => self.object(label.objtype, label.object.as_deref()),
            // Settings go back to what the session began with, which the text does not tell.
            NodeEnum::DiscardStmt(_) => self.flag(flags::STATE_UNKNOWN),
            _ => {}
        }
    }

    /// A relation that a list of strings names, or that the object hangs on.
    fn object(&mut self, kind: i32, object: Option<&Node>) {
        use ObjectType as Kind;
        let Some(items) = object.and_then(names::items) else { return };
        let Some(all) = names::strings(items) else { return };
        let of = match ObjectType::try_from(kind) {
            Ok(
                Kind::ObjectTable
                | Kind::ObjectView
                | Kind::ObjectMatview
                | Kind::ObjectForeignTable
                | Kind::ObjectSequence
                | Kind::ObjectIndex
                | Kind::ObjectStatisticExt,
            ) => all.as_slice(),
            Ok(
                Kind::ObjectColumn
                | Kind::ObjectTrigger
                | Kind::ObjectRule
                | Kind::ObjectPolicy
                | Kind::ObjectTabconstraint,
            ) => all.split_last().map_or(&[][..], |(_, table)| table),
            _ => return,
        };
        self.writes.extend(names::listed(of));
    }
}

/// Whether it defines code that runs in statements which do not name it.
pub(in crate::protocol::postgres::sql) fn runs_unseen(tree: &NodeEnum) -> bool {
    matches!(
        tree,
        NodeEnum::CreateTrigStmt(_)
            | NodeEnum::CreateEventTrigStmt(_)
            | NodeEnum::AlterEventTrigStmt(_)
            | NodeEnum::RuleStmt(_)
            | NodeEnum::CreatePolicyStmt(_)
            | NodeEnum::AlterPolicyStmt(_)
            | NodeEnum::CreateCastStmt(_)
            | NodeEnum::CreateTransformStmt(_)
            | NodeEnum::CreateConversionStmt(_)
            | NodeEnum::CreateOpClassStmt(_)
            | NodeEnum::AlterOpFamilyStmt(_)
            | NodeEnum::CreatePlangStmt(_)
            | NodeEnum::CreateAmStmt(_)
    )
}

/// Whether it is about another server.
pub(in crate::protocol::postgres::sql) fn is_remote(tree: &NodeEnum) -> bool {
    matches!(
        tree,
        NodeEnum::CreateFdwStmt(_)
            | NodeEnum::AlterFdwStmt(_)
            | NodeEnum::CreateForeignServerStmt(_)
            | NodeEnum::AlterForeignServerStmt(_)
            | NodeEnum::CreateForeignTableStmt(_)
            | NodeEnum::ImportForeignSchemaStmt(_)
            | NodeEnum::CreateUserMappingStmt(_)
            | NodeEnum::AlterUserMappingStmt(_)
            | NodeEnum::CreateSubscriptionStmt(_)
            | NodeEnum::AlterSubscriptionStmt(_)
    )
}
