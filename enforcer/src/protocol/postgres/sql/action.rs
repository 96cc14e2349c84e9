//! The action of a statement, and which of several is the strictest.

use pg_query::NodeEnum;
use pg_query::protobuf::ObjectType;

/// From the mildest to the strictest. A statement that does several things is named by the
/// strictest; all of them are in [`Statement::actions`](super::Statement::actions).
const ORDER: [&str; 35] = [
    "sql.show",
    "sql.explain",
    "sql.select",
    "sql.cursor",
    "sql.deallocate",
    "sql.prepare",
    "sql.transaction",
    "sql.listen",
    "sql.set",
    "sql.copy.out",
    "sql.lock",
    "sql.notify",
    "sql.execute",
    "sql.maintenance",
    "sql.function",
    "sql.call",
    "sql.insert",
    "sql.copy.in",
    "sql.merge",
    "sql.update",
    "sql.delete",
    "sql.ddl.comment",
    "sql.ddl.refresh",
    "sql.ddl.create",
    "sql.ddl.rename",
    "sql.ddl.alter",
    "sql.ddl.truncate",
    "sql.ddl.drop",
    "sql.grant",
    "sql.role",
    "sql.system",
    "sql.replication",
    "sql.load",
    "sql.do",
    "sql.other",
];

/// Sorts actions from the strictest down, each once.
pub(super) fn strictest_first(actions: &mut Vec<&'static str>) {
    let rank = |action: &str| ORDER.iter().position(|known| *known == action);
    // One that is not in the order would be the strictest.
    actions.sort_by_key(|action| std::cmp::Reverse(rank(action).unwrap_or(ORDER.len())));
    actions.dedup();
}

/// The action that a node asks for itself, whatever is in it; `None` for what is no statement.
pub(super) fn of(node: &NodeEnum) -> Option<&'static str> {
    Some(match node {
        NodeEnum::SelectStmt(_) => "sql.select",
        NodeEnum::InsertStmt(_) => "sql.insert",
        NodeEnum::UpdateStmt(_) => "sql.update",
        NodeEnum::DeleteStmt(_) => "sql.delete",
        NodeEnum::MergeStmt(_) => "sql.merge",
        NodeEnum::CopyStmt(copy) if copy.is_from => "sql.copy.in",
        NodeEnum::CopyStmt(_) => "sql.copy.out",
        NodeEnum::CallStmt(_) => "sql.call",
        NodeEnum::DoStmt(_) => "sql.do",
        NodeEnum::VariableSetStmt(_)
        | NodeEnum::ConstraintsSetStmt(_)
        | NodeEnum::DiscardStmt(_) => "sql.set",
        NodeEnum::VariableShowStmt(_) => "sql.show",
        NodeEnum::TransactionStmt(_) => "sql.transaction",
        NodeEnum::DeclareCursorStmt(_) | NodeEnum::FetchStmt(_) | NodeEnum::ClosePortalStmt(_) => {
            "sql.cursor"
        }
        NodeEnum::PrepareStmt(_) => "sql.prepare",
        NodeEnum::DeallocateStmt(_) => "sql.deallocate",
        NodeEnum::ExecuteStmt(_) => "sql.execute",
        NodeEnum::ExplainStmt(_) => "sql.explain",
        NodeEnum::LockStmt(_) => "sql.lock",
        NodeEnum::NotifyStmt(_) => "sql.notify",
        NodeEnum::ListenStmt(_) | NodeEnum::UnlistenStmt(_) => "sql.listen",
        NodeEnum::VacuumStmt(_)
        | NodeEnum::ClusterStmt(_)
        | NodeEnum::ReindexStmt(_)
        | NodeEnum::CheckPointStmt(_) => "sql.maintenance",
        NodeEnum::RefreshMatViewStmt(_) => "sql.ddl.refresh",
        NodeEnum::GrantStmt(_)
        | NodeEnum::GrantRoleStmt(_)
        | NodeEnum::AlterDefaultPrivilegesStmt(_) => "sql.grant",
        NodeEnum::CreateRoleStmt(_)
        | NodeEnum::AlterRoleStmt(_)
        | NodeEnum::AlterRoleSetStmt(_)
        | NodeEnum::DropRoleStmt(_)
        | NodeEnum::ReassignOwnedStmt(_)
        | NodeEnum::DropOwnedStmt(_) => "sql.role",
        NodeEnum::AlterSystemStmt(_) => "sql.system",
        NodeEnum::LoadStmt(_) => "sql.load",
        NodeEnum::TruncateStmt(_) => "sql.ddl.truncate",
        NodeEnum::CommentStmt(_) | NodeEnum::SecLabelStmt(_) => "sql.ddl.comment",
        NodeEnum::RenameStmt(_) => "sql.ddl.rename",
        NodeEnum::DropStmt(drop) => match ObjectType::try_from(drop.remove_type) {
            Ok(_) => "sql.ddl.drop",
            Err(_) => "sql.other",
        },
        NodeEnum::DropdbStmt(_)
        | NodeEnum::DropTableSpaceStmt(_)
        | NodeEnum::DropUserMappingStmt(_)
        | NodeEnum::DropSubscriptionStmt(_) => "sql.ddl.drop",
        NodeEnum::CreateStmt(_)
        | NodeEnum::CreateTableAsStmt(_)
        | NodeEnum::CreateForeignTableStmt(_)
        | NodeEnum::CreateSchemaStmt(_)
        | NodeEnum::CreateTableSpaceStmt(_)
        | NodeEnum::CreateExtensionStmt(_)
        | NodeEnum::CreateFdwStmt(_)
        | NodeEnum::CreateForeignServerStmt(_)
        | NodeEnum::CreateUserMappingStmt(_)
        | NodeEnum::ImportForeignSchemaStmt(_)
        | NodeEnum::CreatePolicyStmt(_)
        | NodeEnum::CreateAmStmt(_)
        | NodeEnum::CreateTrigStmt(_)
        | NodeEnum::CreateEventTrigStmt(_)
        | NodeEnum::CreatePlangStmt(_)
        | NodeEnum::CreateSeqStmt(_)
        | NodeEnum::DefineStmt(_)
        | NodeEnum::CreateDomainStmt(_)
        | NodeEnum::CreateOpClassStmt(_)
        | NodeEnum::CreateOpFamilyStmt(_)
        | NodeEnum::IndexStmt(_)
        | NodeEnum::CreateStatsStmt(_)
        | NodeEnum::CreateFunctionStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::CompositeTypeStmt(_)
        | NodeEnum::CreateEnumStmt(_)
        | NodeEnum::CreateRangeStmt(_)
        | NodeEnum::ViewStmt(_)
        | NodeEnum::CreatedbStmt(_)
        | NodeEnum::CreateConversionStmt(_)
        | NodeEnum::CreateCastStmt(_)
        | NodeEnum::CreateTransformStmt(_)
        | NodeEnum::CreatePublicationStmt(_)
        | NodeEnum::CreateSubscriptionStmt(_) => "sql.ddl.create",
        NodeEnum::AlterTableStmt(_)
        | NodeEnum::AlterDomainStmt(_)
        | NodeEnum::AlterCollationStmt(_)
        | NodeEnum::AlterTableSpaceOptionsStmt(_)
        | NodeEnum::AlterTableMoveAllStmt(_)
        | NodeEnum::AlterExtensionStmt(_)
        | NodeEnum::AlterExtensionContentsStmt(_)
        | NodeEnum::AlterFdwStmt(_)
        | NodeEnum::AlterForeignServerStmt(_)
        | NodeEnum::AlterUserMappingStmt(_)
        | NodeEnum::AlterPolicyStmt(_)
        | NodeEnum::AlterEventTrigStmt(_)
        | NodeEnum::AlterSeqStmt(_)
        | NodeEnum::AlterOpFamilyStmt(_)
        | NodeEnum::AlterStatsStmt(_)
        | NodeEnum::AlterFunctionStmt(_)
        | NodeEnum::AlterObjectDependsStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_)
        | NodeEnum::AlterOwnerStmt(_)
        | NodeEnum::AlterOperatorStmt(_)
        | NodeEnum::AlterTypeStmt(_)
        | NodeEnum::AlterEnumStmt(_)
        | NodeEnum::AlterDatabaseStmt(_)
        | NodeEnum::AlterDatabaseRefreshCollStmt(_)
        | NodeEnum::AlterDatabaseSetStmt(_)
        | NodeEnum::AlterTsdictionaryStmt(_)
        | NodeEnum::AlterTsconfigurationStmt(_)
        | NodeEnum::AlterPublicationStmt(_)
        | NodeEnum::AlterSubscriptionStmt(_) => "sql.ddl.alter",
        _ => return None,
    })
}
